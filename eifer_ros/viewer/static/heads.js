// Draws heads in the browser: morph targets of the head model on the graphics card, one renderer for all views.
import * as THREE from "./vendor/three.min.js";
import { unpack } from "./wire.js";

/** True where WebGL runs on a graphics card; a software renderer would take more than a core for what the server does in a tenth. */
export function hardware() {
  const context = document.createElement("canvas").getContext("webgl2");
  if (!context) return { ok: false, name: "no WebGL" };
  const known = context.getExtension("WEBGL_debug_renderer_info");
  const name = known ? context.getParameter(known.UNMASKED_RENDERER_WEBGL) : context.getParameter(context.RENDERER);
  context.getExtension("WEBGL_lose_context")?.loseContext();
  return { ok: !/swiftshader|llvmpipe|software|basic render|softpipe/i.test(name), name };
}

const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const STOPS = [[0.36, 0.4, 0.47], [0.45, 0.38, 0.62], [0.78, 0.34, 0.52], [0.96, 0.55, 0.3], [1, 0.89, 0.48]];

function ink(level, out, at) {
  const x = Math.min(Math.max(level, 0), 1) * 4, i = Math.min(Math.floor(x), 3), share = x - i;
  for (let k = 0; k < 3; k++) out[at + k] = linear(STOPS[i][k] * (1 - share) + STOPS[i + 1][k] * share);
}

function normals(vertices, faces) {
  const out = new Float32Array(vertices.length);
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const ux = vertices[b] - vertices[a], uy = vertices[b + 1] - vertices[a + 1], uz = vertices[b + 2] - vertices[a + 2];
    const wx = vertices[c] - vertices[a], wy = vertices[c + 1] - vertices[a + 1], wz = vertices[c + 2] - vertices[a + 2];
    const nx = uy * wz - uz * wy, ny = uz * wx - ux * wz, nz = ux * wy - uy * wx;
    for (const k of [a, b, c]) { out[k] += nx; out[k + 1] += ny; out[k + 2] += nz; }
  }
  for (let i = 0; i < out.length; i += 3) {
    const length = Math.hypot(out[i], out[i + 1], out[i + 2]) || 1;
    out[i] /= length; out[i + 1] /= length; out[i + 2] /= length;
  }
  return out;
}

export class Heads {
  /** Loads the head model. Throws where WebGL fails. */
  static async load() {
    const answer = await fetch("head.bin");
    if (!answer.ok) throw new Error(`the head model did not come (${answer.status})`);
    return new Heads(unpack(await answer.arrayBuffer()));
  }

  constructor({ header, arrays }) {
    this.model = header.id;
    this.size = header.expression.length;
    const vertices = arrays.vertices.data, faces = arrays.faces.data, count = vertices.length / 3;
    this.skin = arrays.skin.data;
    const eyeOf = new Int8Array(count).fill(-1);
    header.eyes.forEach(({ vertices: own }, eye) => own.forEach((index) => (eyeOf[index] = eye)));
    const kept = [], eyes = header.eyes.map(() => []);
    for (let f = 0; f < faces.length; f += 3) (eyeOf[faces[f]] >= 0 ? eyes[eyeOf[faces[f]]] : kept).push(faces[f], faces[f + 1], faces[f + 2]);

    this.plain = new Float32Array(3 * count);
    for (let i = 0; i < 3 * count; i++) this.plain[i] = linear(arrays.colours.data[i] / 255);
    this.tint = new Float32Array(this.plain);
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(vertices), 3));
    const rest = normals(vertices, faces);
    geometry.setAttribute("normal", new THREE.BufferAttribute(rest, 3));
    this.colour = new THREE.BufferAttribute(new Float32Array(this.plain), 3);
    geometry.setAttribute("color", this.colour);
    geometry.setIndex(kept);
    const moves = [], turns = [];
    for (let e = 0; e < this.size; e++) {
      const move = new Float32Array(3 * count), moved = new Float32Array(3 * count);
      for (let i = 0; i < 3 * count; i++) { move[i] = arrays.basis.data[e * 3 * count + i] * 1e-4; moved[i] = vertices[i] + move[i]; }
      const turn = normals(moved, faces);
      for (let i = 0; i < turn.length; i++) turn[i] -= rest[i];
      moves.push(new THREE.BufferAttribute(move, 3));
      turns.push(new THREE.BufferAttribute(turn, 3));
    }
    geometry.morphAttributes = { position: moves, normal: turns };
    geometry.morphTargetsRelative = true;
    this.material = new THREE.MeshStandardMaterial({ vertexColors: true, roughness: 0.62, metalness: 0, side: 2 });
    this.mesh = new THREE.Mesh(geometry, this.material);
    this.mesh.frustumCulled = false;
    this.head = new THREE.Group();
    this.head.add(this.mesh);
    this.gloss = new THREE.MeshStandardMaterial({ vertexColors: true, roughness: 0.25, metalness: 0 });
    this.eyes = header.eyes.map(({ centre }, eye) => {
      const part = new THREE.BufferGeometry(), shifted = new Float32Array(vertices);
      for (let i = 0; i < shifted.length; i++) shifted[i] -= centre[i % 3];
      part.setAttribute("position", new THREE.BufferAttribute(shifted, 3));
      part.setAttribute("normal", new THREE.BufferAttribute(rest, 3));
      part.setAttribute("color", new THREE.BufferAttribute(this.plain, 3));
      part.setIndex(eyes[eye]);
      const mesh = new THREE.Mesh(part, this.gloss);
      mesh.position.set(...centre);
      mesh.frustumCulled = false;
      this.head.add(mesh);
      return mesh;
    });
    this.centre = new THREE.Vector3(...header.centre);
    this.pivot = new THREE.Vector3(...header.pivot);
    this.scene = new THREE.Scene();
    this.scene.add(this.head);
    this.scene.add(new THREE.HemisphereLight(0xdfe8f5, 0x40352c, 1.1));
    const key = new THREE.DirectionalLight(0xfff1e0, 2.2), fill = new THREE.DirectionalLight(0xbcd2ff, 0.7);
    key.position.set(0.42, 0.62, 0.66);
    fill.position.set(-0.75, 0.05, 0.45);
    this.scene.add(key, fill);
    this.camera = new THREE.PerspectiveCamera(15, 1, 0.1, 4);
    this.renderer = new THREE.WebGLRenderer({ antialias: true, alpha: true, preserveDrawingBuffer: false });
    this.warmth = null;
  }

  /** How much each muscle warms each vertex; null where the server does not know yet. */
  async learnWarmth() {
    const answer = await fetch("warmth.bin");
    if (!answer.ok) return;
    const { header, arrays } = unpack(await answer.arrayBuffer());
    this.warmth = { muscles: header.muscles.length, data: arrays.warmth.data };
  }

  /** Pose the head: coefficients as the server packs them (9 rotation, 6 eyes, expression), null for rest. facing: ignore the pose. */
  pose(values, facing) {
    const rotation = values && !facing ? values : [1, 0, 0, 0, -1, 0, 0, 0, -1];
    const m = new THREE.Matrix4();
    // camera axes (y down, z away) to the scene's (y up, z towards the viewer)
    m.set(rotation[0], rotation[1], rotation[2], 0, -rotation[3], -rotation[4], -rotation[5], 0, -rotation[6], -rotation[7], -rotation[8], 0, 0, 0, 0, 1);
    this.head.quaternion.setFromRotationMatrix(m);
    this.head.position.copy(this.pivot).applyQuaternion(this.head.quaternion).negate().add(this.pivot);
    const influences = this.mesh.morphTargetInfluences;
    for (let e = 0; e < this.size; e++) influences[e] = values ? values[15 + e] || 0 : 0;
    this.eyes.forEach((eye, side) => {
      const axis = new THREE.Vector3(values ? values[9 + 3 * side] : 0, values ? values[10 + 3 * side] : 0, values ? values[11 + 3 * side] : 0);
      const angle = axis.length();
      eye.quaternion.setFromAxisAngle(angle > 1e-6 ? axis.divideScalar(angle) : axis.set(0, 1, 0), angle);
    });
  }

  /** Colours of activity 0..1 per muscle; null for plain skin. */
  paint(activity) {
    const out = this.colour.array;
    this.gloss.color.setScalar(activity ? 0.45 : 1);
    if (!activity) out.set(this.plain);
    else {
      const muscles = this.warmth?.muscles ?? 0;
      for (let v = 0; v < this.skin.length; v++) {
        if (!this.skin[v]) { for (let k = 0; k < 3; k++) out[3 * v + k] = 0.35 * this.plain[3 * v + k] + 0.03; continue; }
        let sum = 0;
        for (let m = 0; m < muscles; m++) { const w = this.warmth.data[v * muscles + m]; if (w > 2) sum += ((w / 255) * Math.min(activity[m] || 0, 1.2)) ** 2; }
        ink(Math.sqrt(sum), out, 3 * v);
      }
    }
    this.colour.needsUpdate = true;
  }

  /** Render into a 2D canvas of the page. */
  draw(canvas) {
    const scale = Math.min(devicePixelRatio || 1, 2);
    const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const own = this.renderer.domElement;
    if (own.width !== width || own.height !== height) this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    const tall = Math.max(0.262, 0.262 / this.camera.aspect);
    this.camera.position.set(this.centre.x, this.centre.y, this.centre.z + tall / 2 / Math.tan((this.camera.fov * Math.PI) / 360));
    this.camera.lookAt(this.centre);
    this.camera.updateProjectionMatrix();
    this.renderer.render(this.scene, this.camera);
    const context = canvas.getContext("2d");
    const ground = context.createRadialGradient(width / 2, 0.45 * height, 0, width / 2, 0.45 * height, 0.75 * Math.max(width, height));
    ground.addColorStop(0, "rgb(52,58,66)");
    ground.addColorStop(1, "rgb(24,27,32)");
    context.fillStyle = ground;
    context.fillRect(0, 0, width, height);
    context.drawImage(own, 0, 0);
  }
}
