"""Numbers, keys and sealed frames of a repository, as docs/format.md says.

Part of the independent reader: written from that document alone, so that the
document is known to be enough. Nothing here is shared with the Rust code.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import re

import blake3
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

KINDS = {"packs": 1, "meta": 2, "snapshots": 3, "sessions": 4, "beats": 5, "condemned": 6, "verdict": 7,
         "marks": 9, "blockers": 10, "decisions": 13, "ledger": 15, "leaving": 16,
         "written-off": 17}
LARGEST_OBJECT = 32 << 20
LARGEST_PIECE = 4 << 20
NUMBER = r"(?:0|[1-9][0-9]{0,9})"
SESSION = rf"[a-z2-7]{{8}}-[0-9]{{8}}t[0-9]{{6}}z-[a-z2-7]{{16}}-{NUMBER}"


class Damage(Exception):
    """What is read is not what the document says."""


def need(condition, what):
    if not condition:
        raise Damage(what)


def base32(data):
    return base64.b32encode(data).decode().lower().rstrip("=")


def is_number(text):
    return re.fullmatch(NUMBER, text) is not None and int(text) <= 0xFFFFFFFF


def spread(last_part):
    return hashlib.sha256(last_part.encode()).hexdigest()[:2]


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def hkdf(secret, salt, info):
    """RFC 5869 with SHA-256, 32 bytes: one round of expanding."""
    return mac(mac(salt, secret), info, b"\x01")


def parse_json(data):
    try:
        return json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise Damage(f"JSON: {error}") from None


class Bytes:
    """Takes structures apart; what is short or left over is damage."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(count <= len(self.data) - self.at, "a structure is cut off")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self, most=2**64 - 1):
        value = 0
        for n in range(10):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * n)
            if byte < 0x80:
                need(byte or n == 0, "a varint is longer than needed")
                need(value <= most, f"{value} is more than {most}")
                return value
        raise Damage("a varint has more than 10 bytes")

    def zigzag(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def text(self):
        try:
            return self.take(self.varint()).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Damage(f"text: {error}") from None

    def more(self):
        return self.at < len(self.data)

    def end(self):
        need(not self.more(), "bytes after the end of a structure")


def unzstd(data, most):
    """One frame, with content size, without dictionary, and nothing behind it."""
    try:
        parameters = zstandard.get_frame_parameters(data)
        need(parameters.dict_id == 0, "a zstd frame with a dictionary")
        need(parameters.content_size not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR), "a zstd frame without content size")
        need(parameters.content_size <= most, "a zstd frame of too much content")
        decoder = zstandard.ZstdDecompressor().decompressobj()
        content = decoder.decompress(data)
    except zstandard.ZstdError as error:
        raise Damage(f"zstd: {error}") from None
    need(decoder.eof and not decoder.unused_data, "not one zstd frame")
    need(len(content) == parameters.content_size, "a zstd frame of another content size")
    return content


def open_piece(data):
    reader = Bytes(data)
    compression, content = reader.byte(), data[1:]
    need(compression in (0, 1), "an unknown compression of a piece")
    content = unzstd(content, LARGEST_PIECE) if compression else content
    need(len(content) <= LARGEST_PIECE, "a piece is too large")
    return content


def one_line_feed_less(data):
    return data[:-2] if data.endswith(b"\r\n") else data[:-1] if data.endswith(b"\n") else data


class Secret:
    """A passphrase's or a raw key's file; neither for a repository in clear."""

    def __init__(self, passphrase_file=None, key_file=None):
        self.passphrase = self.raw = None
        if passphrase_file:
            self.passphrase = one_line_feed_less(pathlib.Path(passphrase_file).read_bytes())
        if key_file:
            data = pathlib.Path(key_file).read_bytes()
            self.raw = data if len(data) == 32 else self.decode(data)

    @staticmethod
    def decode(data):
        data = one_line_feed_less(data)
        raw = data if len(data) == 32 else base64.b64decode(data, validate=True)
        need(len(raw) == 32, "a raw key has 32 bytes")
        return raw

    def is_given(self):
        return self.passphrase is not None or self.raw is not None

    def wrapping_key(self, kdf, numbers, salt):
        if kdf == 1 and self.passphrase is not None:
            rounds, *rest = numbers
            need(100_000 <= rounds <= 10_000_000 and rest == [0, 0], "rounds out of bounds")
            return hashlib.pbkdf2_hmac("sha256", self.passphrase, salt, rounds)
        if kdf == 2 and self.passphrase is not None:
            passes, memory, lanes = numbers
            need(2 <= passes <= 16 and 19_456 <= memory <= 131_072 and 1 <= lanes <= 16, "Argon2id out of bounds")
            return Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(self.passphrase)
        if kdf == 3 and self.raw is not None:
            return hkdf(self.raw, salt, b"dbbackup/v0/slot")
        return None


class Sealed:
    """An open repository folder: its config, its keys, and its sealed objects."""

    def __init__(self, folder, secret):
        self.folder = pathlib.Path(folder)
        name, content, data = self.newest_config()
        config = parse_json(content)
        need(config["version"] == 0, "an unknown version")
        features = config["features"]
        need(not features["incompatible"], "an unknown feature")
        self.id = bytes.fromhex(config["repositoryId"])
        need(len(self.id) == 16, "a repository id has 16 bytes")
        self.cipher = {"none": 0, "aes-256-gcm": 1}[config["encryption"]]
        self.master = self.open_slots(secret) if self.cipher else bytes(32)
        key = self.derived("config")
        expected = mac(key, name.encode(), b"\0", data[:-32]) if self.cipher else bytes(32)
        need(hmac.compare_digest(data[-32:], expected), f"{name} is forged")
        self.name_key = self.derived("names")
        self.chunk_key = self.derived("chunk-id")
        self.digest_key = self.derived("stream-digest")

    def derived(self, what):
        return hkdf(self.master, self.id, f"dbbackup/v0/{what}".encode())

    def chunk_id(self, content):
        if self.cipher:
            return blake3.blake3(content, key=self.chunk_key).digest()[:16]
        return blake3.blake3(content).digest()

    def names(self, folder):
        """The names of all objects of a folder."""
        paths = (self.folder / folder).rglob("*")
        return sorted(str(path.relative_to(self.folder)) for path in paths if path.is_file())

    def exists(self, name):
        return (self.folder / name).is_file()

    def load(self, name):
        data = (self.folder / name).read_bytes()
        need(len(data) <= LARGEST_OBJECT, f"{name} is too large")
        return data

    def newest_config(self):
        numbers = (name.removeprefix("config/") for name in self.names("config"))
        for number in sorted((int(n) for n in numbers if is_number(n)), reverse=True):
            name = f"config/{number}"
            data = self.load(name)
            length = int.from_bytes(data[8:12], "little")
            if data[:8] != b"dbbkconf" or length > 65_536 or len(data) != 12 + length + 64:
                continue
            if hashlib.sha256(data[:-64]).digest() == data[-64:-32]:
                return name, data[12 : 12 + length], data
        raise Damage("there is no valid config")

    def open_slots(self, secret):
        outcome = "no key slot is for this secret"
        for name in self.names("keys"):
            slot = self.load(name)
            end = {164: 132, 252: 220}.get(len(slot))
            if end is None or hashlib.sha256(slot[:end]).digest() != slot[end:] or slot[6] != (end == 220):
                outcome = f"{name} is damaged"
                continue
            need(slot[:4] == b"dbks" and slot[4] == 0, f"{name} is of an unknown version")
            if slot[8:24] != self.id:
                continue
            need(base32(slot[24:40]) == name.removeprefix("keys/"), f"{name} has another id")
            numbers = [int.from_bytes(slot[at:at + 4], "little") for at in (40, 44, 48)]
            key = secret.wrapping_key(slot[5], numbers, slot[52:84])
            if key is None:
                continue
            try:
                master = AESGCM(key).decrypt(bytes(12), slot[84:132], slot[:84])
            except InvalidTag:
                outcome = "the key is wrong"
                continue
            if end == 220:
                self.verify_label(slot, master)
            return master
        raise Damage(outcome)

    def verify_label(self, slot, master):
        try:
            key = hkdf(master, slot[52:84], b"dbbackup/v0/slot-label")
            label = AESGCM(key).decrypt(bytes(12), slot[132:220], slot[:132])
        except InvalidTag:
            raise Damage("a key slot is forged") from None
        need(label[0] <= 63 and not any(label[1 + label[0]:64]), "a key slot's label is malformed")
        label[1:1 + label[0]].decode()

    def header(self, name, data):
        """Verifies the header; gives its 32 random bytes."""
        need(len(data) >= 40 and data[:4] == b"dbbk", f"{name} is none of ours")
        need(data[4] == 0, f"{name} is of an unknown version")
        kind = KINDS[name.split("/")[0]]
        need(data[5:8] == bytes([kind, self.cipher, 0]), f"{name} has a wrong header")
        return data[8:40]

    def unseal(self, name, salt, counter, last, frame):
        """The content of one frame (its tag included), verified."""
        need(len(frame) >= 16, f"{name} is cut off")
        kind = KINDS[name.split("/")[0]]
        nonce = bytes(4) + counter.to_bytes(8, "big")
        aad = self.id + bytes([0, kind, last]) + counter.to_bytes(8, "little") + name.encode()
        if self.cipher:
            key = hkdf(self.master, salt, b"dbbackup/v0/object" + bytes([kind]) + name.encode())
            try:
                return AESGCM(key).decrypt(nonce, frame, aad)
            except InvalidTag:
                raise Damage(f"{name}: frame {counter} is damaged") from None
        content, tag = frame[:-16], frame[-16:]
        need(hashlib.sha256(aad + salt + nonce + content).digest()[:16] == tag, f"{name}: frame {counter} is damaged")
        return content

    def object(self, name, data=None):
        """The content of an object of one frame."""
        data = self.load(name) if data is None else data
        return self.unseal(name, self.header(name, data), 0, 1, data[40:])
