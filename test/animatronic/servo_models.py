"""Servos at the level of bytes: a Dynamixel protocol 2.0 bus behind a pseudo-terminal, and a PCA9685 behind
an I2C bus.
"""

from __future__ import annotations

import os
import pty
import select
import threading
import tty

PATIENT_MS = 5000.0
"""The SDK gives a servo 34 ms to answer. A thread that plays the servo on a busy machine gets so much instead:
value for `dynamixel_sdk.port_handler.LATENCY_TIMER`.
"""


def crc16(data: bytes) -> int:
    """CRC-16/BUYPASS, bit by bit (polynomial 0x8005), as protocol 2.0 asks."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x8005) & 0xFFFF if crc & 0x8000 else (crc << 1) & 0xFFFF
    return crc


class Servo:
    """The control table of one X-series servo, with the rules that matter: EEPROM only without torque,
    watchdog, position in reach.
    """

    def __init__(self, number: int, position: int = 2048) -> None:
        self.number = number
        self.table = bytearray(147)
        self.table[11] = 1  # velocity mode, to be changed
        self.put(132, 4, position)
        self.put(116, 4, position)
        self.silent = False
        self.written: list[tuple[int, bytes]] = []
        self.silence_s = 0.0

    def get(self, address: int, size: int) -> int:
        return int.from_bytes(self.table[address : address + size], "little")

    def put(self, address: int, size: int, value: int) -> None:
        self.table[address : address + size] = value.to_bytes(size, "little")

    @property
    def torque(self) -> bool:
        return bool(self.table[64])

    def pass_time(self, seconds: float) -> None:
        """Silence on the bus: the watchdog counts."""
        self.silence_s += seconds
        if 0 < self.table[98] < 128 and self.torque and self.silence_s > self.table[98] * 0.02:
            self.table[98] = 0xFF  # -1: triggered; goals are read-only until 0 is written

    def write(self, address: int, data: bytes) -> int:
        """Error code of the status packet."""
        self.silence_s = 0.0
        if address < 64 and self.torque:
            return 0x07  # access error
        if self.table[98] == 0xFF and 100 <= address <= 119:
            return 0x07
        if address == 116 and self.torque and not 0 <= int.from_bytes(data, "little", signed=True) <= 4095:
            return 0x04  # data range
        self.table[address : address + len(data)] = data
        self.written.append((address, bytes(data)))
        if address == 116 and self.torque:
            self.table[132:136] = data  # an ideal motor
        return 0


class DynamixelBus:
    """Parses instruction packets from a pty and answers as the servos would."""

    def __init__(self, servos: list[Servo]) -> None:
        self.servos = {servo.number: servo for servo in servos}
        self.master, slave = pty.openpty()
        tty.setraw(self.master)
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self._slave = slave
        self._stop_r, self._stop_w = os.pipe()
        self.unplugged = False
        self.broken_packets = 0
        self.sync_writes = 0
        self.changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.unplug()
        for handle in (self._stop_r, self._stop_w):
            os.close(handle)

    def unplug(self) -> None:
        """The adapter leaves: the port's other side is gone."""
        if self.unplugged:
            return
        self.unplugged = True
        os.write(self._stop_w, b"x")
        self._thread.join(120)
        for handle in (self.master, self._slave):
            os.close(handle)

    def wait_for_sync_writes(self, count: int) -> None:
        """Sync writes are not answered: wait until they have been read."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.sync_writes >= count, timeout=120)

    def _run(self) -> None:
        buffer = b""
        while True:
            ready, _, _ = select.select([self.master, self._stop_r], [], [])
            if self._stop_r in ready:
                return
            buffer += os.read(self.master, 4096)
            while True:
                start = buffer.find(b"\xff\xff\xfd\x00")
                if start < 0 or len(buffer) < start + 7:
                    break
                length = int.from_bytes(buffer[start + 5 : start + 7], "little")
                if len(buffer) < start + 7 + length:
                    break
                packet, buffer = buffer[start : start + 7 + length], buffer[start + 7 + length :]
                if crc16(packet[:-2]) != int.from_bytes(packet[-2:], "little"):
                    self.broken_packets += 1
                    continue
                self._take(packet[4], packet[7], packet[8:-2])

    def _take(self, number: int, instruction: int, data: bytes) -> None:
        if instruction == 0x83:  # sync write
            address, size = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
            body = data[4:]
            for i in range(0, len(body), size + 1):
                servo = self.servos.get(body[i])
                if servo is not None and not servo.silent:
                    servo.write(address, body[i + 1 : i + 1 + size])
            with self.changed:
                self.sync_writes += 1
                self.changed.notify_all()
            return
        if instruction == 0x82:  # sync read
            address, size = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
            for each in data[4:]:
                servo = self.servos.get(each)
                if servo is not None and not servo.silent:
                    self._answer(each, 0, bytes(servo.table[address : address + size]))
            return
        servo = self.servos.get(number)
        if servo is None or servo.silent:
            return
        if instruction == 0x01:  # ping: model number and firmware
            self._answer(number, 0, (1060).to_bytes(2, "little") + b"\x2d")
        elif instruction == 0x02:
            address, size = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
            self._answer(number, 0, bytes(servo.table[address : address + size]))
        elif instruction == 0x03:
            self._answer(number, servo.write(int.from_bytes(data[:2], "little"), data[2:]), b"")

    def _answer(self, number: int, error: int, parameters: bytes) -> None:
        packet = (
            b"\xff\xff\xfd\x00"
            + bytes([number])
            + (len(parameters) + 4).to_bytes(2, "little")
            + bytes([0x55, error])
            + parameters
        )
        os.write(self.master, packet + crc16(packet).to_bytes(2, "little"))


class I2cBus:
    """A bus with a PCA9685 at one address, with the methods of smbus2.SMBus that are used."""

    def __init__(self, address: int = 0x40) -> None:
        self.address = address
        self.registers = bytearray(256)
        self.registers[0x00] = 0x11  # asleep after power-on
        self.registers[0xFE] = 0x1E
        self.unplugged = False
        self.closed = False

    def _check(self, address: int) -> None:
        if address != self.address or self.unplugged:
            raise OSError(121, "Remote I/O error")

    def write_byte_data(self, address: int, register: int, value: int) -> None:
        self._check(address)
        if register == 0xFE and not self.registers[0x00] & 0x10:
            return  # the prescaler only takes a value while the oscillator sleeps
        if register in (0xFA, 0xFB, 0xFC, 0xFD):  # ALL_LED: the same byte to every channel
            for channel in range(16):
                self.registers[0x06 + 4 * channel + register - 0xFA] = value
        self.registers[register] = value

    def read_byte_data(self, address: int, register: int) -> int:
        self._check(address)
        return self.registers[register]

    def write_i2c_block_data(self, address: int, register: int, data: list[int]) -> None:
        self._check(address)
        assert self.registers[0x00] & 0x20, "a block needs auto-increment"
        self.registers[register : register + len(data)] = bytes(data)

    def close(self) -> None:
        self.closed = True

    def pulse_us(self, channel: int) -> float | None:
        """The pulse a servo on this channel sees, from the registers alone; None where the output is off."""
        on_l, on_h, off_l, off_h = self.registers[0x06 + 4 * channel : 0x0A + 4 * channel]
        if off_h & 0x10 or self.registers[0x00] & 0x10:
            return None
        on, off = on_l | (on_h & 0x0F) << 8, off_l | (off_h & 0x0F) << 8
        return ((off - on) % 4096) * (self.registers[0xFE] + 1) / 25.0
