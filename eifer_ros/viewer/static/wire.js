// The socket: unpacks what the server sends, reconnects, measures how far the two clocks are apart.

const TYPES = { f4: Float32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };

function halves(words) {
  const out = new Float32Array(words.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i], exponent = (word >> 10) & 31, fraction = word & 1023;
    const value = exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? (fraction ? NaN : Infinity) : (1024 + fraction) * 2 ** (exponent - 25);
    out[i] = word & 32768 ? -value : value;
  }
  return out;
}

/** uint32 length, JSON header, arrays padded to four bytes: see geometry.py. Returns { header, arrays }. */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  let at = 4 + length;
  for (const { name, type, shape } of header.arrays) {
    const count = shape.reduce((a, b) => a * b, 1);
    const bytes = count * Number(type[1]);
    const data = type === "f2" ? halves(new Uint16Array(buffer, at, count)) : new TYPES[type](buffer, at, count);
    arrays[name] = { data, shape };
    at += bytes + ((4 - (bytes % 4)) % 4);
  }
  return { header, arrays };
}

export class Wire {
  /** on: { open, close, hello, status, update, error }, each called with what came. */
  constructor(on) {
    this.on = on;
    this.offset = 0; // server clock minus ours, ms
    this.best = Infinity;
    this.pause = 400;
    this.waiting = new Map();
    this.number = 0;
    this.connect();
  }

  connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      this.pause = 400;
      this.best = Infinity;
      this.on.open();
      this.ping();
      this.pinging = setInterval(() => this.ping(), 4000);
    };
    socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) {
        const { header, arrays } = unpack(data);
        this.on.update(header, arrays);
        return;
      }
      const message = JSON.parse(data);
      if (message.t === "pong") this.pong(message);
      else if (message.t === "reply") {
        this.waiting.get(message.id)?.(message);
        this.waiting.delete(message.id);
      } else this.on[message.t]?.(message);
    };
    socket.onclose = () => {
      clearInterval(this.pinging);
      for (const answer of this.waiting.values()) answer({ ok: false, text: "the connection was lost" });
      this.waiting.clear();
      this.on.close();
      setTimeout(() => this.connect(), this.pause);
      this.pause = Math.min(this.pause * 1.6, 4000);
    };
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** Press a button: resolves to { ok, text }. */
  command(control, verb, values = {}) {
    const id = ++this.number;
    return new Promise((resolve) => {
      if (this.socket.readyState !== WebSocket.OPEN) return resolve({ ok: false, text: "not connected" });
      this.waiting.set(id, resolve);
      this.send({ t: "command", id, control, verb, values });
    });
  }

  ping() {
    this.send({ t: "ping", id: Date.now() });
  }

  pong({ id, now_ms }) {
    const now = Date.now(), trip = now - id;
    if (trip <= this.best) {
      this.best = trip;
      this.offset = trip < 3 ? 0 : now_ms - (id + now) / 2;
      if (Math.abs(now_ms - now) > 50 && trip < 3) this.offset = now_ms - now;
    }
  }

  /** Now, on the server's clock, ms. */
  now() {
    return performance.timeOrigin + performance.now() + this.offset;
  }
}
