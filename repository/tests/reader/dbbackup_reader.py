"""An independent reader of repositories, written from docs/format.md alone.

    dbbackup_reader.py [--passphrase-file F | --key-file F] FOLDER [OUTPUT]

Verifies everything that the document says and that a reader can verify, and prints
as JSON what is there. With OUTPUT, each stream's bytes go to OUTPUT/<snapshot>/<n>,
and their names to OUTPUT/<snapshot>/streams.json. A repository that is damaged
anywhere gives an exit code of 1 and the reason: this is a proof of the document and a
way out in an emergency, no replacement for `check`.
"""

import argparse
import hashlib
import json
import pathlib
import re
import sys

import blake3

from sealed import (NUMBER, SESSION, Bytes, Damage, Sealed, Secret, base32, mac, need, open_piece,
                    parse_json, spread, unzstd)

TABLES = 2**32
LARGEST_HEAD = 1 << 20
LARGEST_META = 8 << 20
LARGEST_PLAIN = 1 << 20


class Pack:
    """A pack, every frame of it verified."""

    def __init__(self, sealed, name):
        self.name, self.data = name, sealed.load(name)
        self.salt = sealed.header(name, self.data)
        data = self.data
        need(len(data) >= 40 + 64 and data[-64:-32] == self.salt, f"{name}: the random bytes differ")
        trailer = sealed.unseal(name, self.salt, TABLES + 2, 1, data[-32:])
        self.at, self.block_table_length, self.chunk_table_length, count = (
            int.from_bytes(trailer[n : n + 4], "little") for n in range(0, 16, 4))
        middle = self.at + self.block_table_length
        end = middle + self.chunk_table_length
        need(self.at >= 40 and end == len(data) - 64, f"{name}: tables in another place")
        self.tags = data[middle - 16 : middle] + data[end - 16 : end]
        blocks = self.block_table(sealed.unseal(name, self.salt, TABLES, 0, data[self.at : middle]))
        need(len(blocks) == count, f"{name}: another number of blocks")
        chunks = self.chunk_table(sealed, sealed.unseal(name, self.salt, TABLES + 1, 0, data[middle:end]))
        at = 40
        self.blocks = []
        for number, (length, plain, compression, many) in enumerate(blocks):
            content = sealed.unseal(name, self.salt, number, 0, data[at : at + length])
            at += length
            content = unzstd(content, LARGEST_PLAIN) if compression else content
            need(len(content) == plain, f"{name}: block {number} has another length")
            self.verify_chunks(sealed, content, [next(chunks, None) for _ in range(many)])
            self.blocks.append(content)
        need(next(chunks, None) is None, f"{name}: chunks of no block")
        need(at <= self.at, f"{name}: blocks in the tables")
        if at < self.at:
            padding = sealed.unseal(name, self.salt, count, 0, data[at : self.at])
            need(not any(padding), f"{name}: the padding is not zeros")

    @staticmethod
    def block_table(content):
        reader = Bytes(content)
        count = reader.varint(65_536)
        blocks = []
        for _ in range(count):
            length, plain, compression = reader.varint(), reader.varint(LARGEST_PLAIN), reader.byte()
            need(compression in (0, 1), "an unknown compression of a block")
            blocks.append((length, plain, compression, reader.varint()))
        reader.end()
        return blocks

    @staticmethod
    def chunk_table(sealed, content):
        reader = Bytes(content)
        count = reader.varint(1_048_576)
        ids = [reader.take(16 if sealed.cipher else 32) for _ in range(count)]
        lengths = [reader.varint() for _ in range(count)]
        reader.end()
        return iter(list(zip(ids, lengths)))

    def verify_chunks(self, sealed, content, chunks):
        at = 0
        for chunk in chunks:
            need(chunk is not None, f"{self.name}: too few chunks")
            identity, length = chunk
            data = content[at : at + length]
            need(sealed.chunk_id(data) == identity, f"{self.name}: a chunk has another content")
            at += length
        need(at == len(content), f"{self.name}: chunks of another length than their block")


class MovedPack:
    """A pack that is gone: those of its blocks that are in others."""

    def __init__(self, name, blocks):
        self.name, self.blocks = name, blocks


class Packs:
    """Packs by name, those used last at hand: about 400 MB at most."""

    def __init__(self, sealed):
        self.sealed, self.packs, self.repackings = sealed, {}, []

    def moves(self, entry):
        return [(repacking, move) for repacking in self.repackings for move in repacking.moves
                if move["name"] == entry["name"] and move["tag"] == entry["tags"][:16]]

    def is_moved(self, entry):
        return not self.sealed.exists(entry["name"]) and bool(self.moves(entry))

    def get_moved(self, entry):
        blocks = [None] * entry["blocks"]
        for repacking, move in self.moves(entry):
            home, _ = repacking.pack(move["home"])
            for block, place in move["places"].items():
                need(place < len(home.blocks) and block < len(blocks), f"{repacking.name}: no such block")
                blocks[block] = home.blocks[place]
        return MovedPack(entry["name"], blocks)

    def get(self, name):
        pack = self.packs.pop(name, None) or Pack(self.sealed, name)
        if len(self.packs) >= 8:
            del self.packs[next(iter(self.packs))]
        self.packs[name] = pack
        return pack


class Snapshot:
    """A head and the tables that it refers to."""

    def __init__(self, sealed, packs, name, data):
        self.sealed, self.packs, self.name, self.id = sealed, packs, name, name.removeprefix("snapshots/")
        need(len(data) <= LARGEST_HEAD, f"{name} is too large")
        self.stored_digest = hashlib.sha256(data).hexdigest()
        reader = Bytes(sealed.object(name, data))
        self.form = reader.byte()
        need(self.form in (1, 2), f"{name} is neither a head nor a tombstone")
        sections, last = {}, 0
        while reader.more():
            tag = reader.varint()
            need(tag > last, f"{name}: tags do not ascend")
            last = tag
            sections[tag] = reader.take(reader.varint())
            need(1 <= tag <= 8 or tag >= 64, f"{name}: section {tag} is unknown")
        need(len(sections[1]) <= 64 << 10 and len(sections.get(6, b"")) <= 256 << 10, f"{name}: a section is too large")
        self.about = parse_json(sections[1])
        need(self.about["session"] == self.id, f"{name}: the session is another")
        if self.form == 2:
            need(self.about["reason"] in ("Retry", "Inspect", "Silent", "TooOld"), f"{name}: an unknown reason")
            return
        self.verify_id()
        self.report = parse_json(sections[6]) if 6 in sections else None
        self.sessions = self.read_sessions(Bytes(sections[2]))
        self.used_meta = set()
        self.meta = self.read_meta(Bytes(sections[3]))
        self.pack_table = self.read_pack_table(Bytes(sections[4]))
        self.streams = self.read_stream_table(Bytes(sections[5]))
        self.moves = self.read_moves(Bytes(sections[7])) if 7 in sections else []
        self.digest_key = sections.get(8, self.sealed.digest_key)
        need(len(self.digest_key) == 32, f"{name}: a key of another length")
        need(len(self.streams) == self.about["streams"], f"{name}: another number of streams")

    def verify_id(self):
        series, run = self.about["series"].encode(), self.about["runId"].encode()
        time = re.sub(r"(\.[0-9]+)?Z$", "Z", self.about["slotTime"])
        time = time.replace("-", "").replace(":", "").lower()
        key = self.sealed.name_key
        expected = "-".join([base32(mac(key, b"series\0", series)[:5]), time,
                             base32(mac(key, b"run\0", run)[:10]), str(self.about["attempt"])])
        need(self.id == expected, f"{self.name}: the name is not made of what is in it")

    def read_sessions(self, reader):
        sessions = [reader.text() for _ in range(reader.varint())]
        reader.end()
        need(all(re.fullmatch(SESSION, session) for session in sessions), f"{self.name}: no name of a session")
        return sessions

    def part(self, session, number):
        need(session < len(self.sessions) and number < 2**32, f"{self.name}: no such session")
        return f"{self.sessions[session]}-{number}"

    def read_meta(self, reader):
        objects = []
        for _ in range(reader.varint()):
            part = self.part(reader.varint(), reader.varint())
            name = f"meta/{spread(part)}/{part}"
            size, salt = reader.varint(LARGEST_META), reader.take(32)
            data = self.sealed.load(name)
            need(len(data) == size and self.sealed.header(name, data) == salt, f"{name} is another one")
            objects.append((name, data))
        reader.end()
        return objects

    def at_place(self, reader):
        if not reader.varint(1):
            return open_piece(reader.take(reader.varint()))
        index, counter, offset, length = (reader.varint() for _ in range(4))
        need(index < len(self.meta), f"{self.name}: no such meta object")
        name, data = self.meta[index]
        need(40 <= offset and offset + length <= len(data), f"{self.name}: a place outside of {name}")
        self.used_meta.add((index, counter, offset, length))
        return open_piece(self.sealed.unseal(name, data[8:40], counter, 0, data[offset : offset + length]))

    def read_pack_table(self, reader):
        table = []
        for _ in range(reader.varint()):
            count = reader.varint()
            page = Bytes(self.at_place(reader))
            for _ in range(count):
                part = self.part(page.varint(), page.varint())
                size, at, blocks_length, chunks_length, blocks = (page.varint() for _ in range(5))
                table.append({"name": f"packs/{spread(part)}/{part}", "size": size, "at": at,
                              "lengths": (blocks_length, chunks_length), "blocks": blocks,
                              "salt": page.take(32), "tags": page.take(32), "use": page.take(-(-blocks // 4))})
            page.end()
        reader.end()
        return table

    def is_repacking(self):
        return self.form == 1 and self.about["series"] == "\0moved"

    def read_moves(self, reader):
        """Old pack, number of its blocks, tag of its block table, and the blocks as (number, home, number there)."""
        moves = []
        for _ in range(reader.varint()):
            part = self.part(reader.varint(), reader.varint())
            blocks, home, first, tag = reader.varint(65_536), reader.varint(), reader.varint(), reader.take(16)
            bits = reader.take(-(-blocks // 8))
            carried = [block for block in range(len(bits) * 8) if bits[block // 8] >> (block % 8) & 1]
            need(all(block < blocks for block in carried), f"{self.name}: a block is moved that was none")
            moves.append({"name": f"packs/{spread(part)}/{part}", "blocks": blocks, "tag": tag, "home": home,
                          "places": {block: first + n for n, block in enumerate(carried)}})
        reader.end()
        return moves

    def read_stream_table(self, reader):
        streams = []
        for _ in range(reader.varint()):
            count, first = reader.varint(), reader.text()
            page, before = Bytes(self.at_place(reader)), b""
            for number in range(count):
                shared = page.varint(len(before))
                name = before[:shared] + page.take(page.varint(1024))
                need(number > 0 or (shared == 0 and name == first.encode()), f"{self.name}: another first name")
                need(len(name) <= 1024 and (not streams or streams[-1]["name"].encode() < name), f"{self.name}: names out of order")
                before = name
                streams.append(self.read_stream(name.decode("utf-8"), page))
            page.end()
        reader.end()
        return streams

    def read_stream(self, name, page):
        stream = {"name": name, "length": page.varint(), "digest": page.take(32)}
        chunker, sizes = page.byte(), page.take(3)
        need(chunker in (0, 1) and sizes[0] <= sizes[1] <= sizes[2], f"{name}: an unknown chunker")
        used = len(self.used_meta)
        stream["segments"] = [(page.varint(), self.at_place(page)) for _ in range(page.varint())]
        stream["outside"] = len(self.used_meta) - used
        need(sum(length for length, _ in stream["segments"]) == stream["length"], f"{name}: segments of another length")
        return stream

    def pack(self, number):
        """The pack of that number, and that it is the one that the head means."""
        need(0 <= number < len(self.pack_table), f"{self.name}: no such pack")
        entry = self.pack_table[number]
        if self.packs.is_moved(entry):
            return self.packs.get_moved(entry), entry["use"]
        pack = self.packs.get(entry["name"])
        found = (len(pack.data), pack.at, (pack.block_table_length, pack.chunk_table_length), len(pack.blocks), pack.salt, pack.tags)
        meant = tuple(entry[key] for key in ("size", "at", "lengths", "blocks", "salt", "tags"))
        need(found == meant, f"{self.name}: {pack.name} is another one")
        return pack, entry["use"]

    def read_segment(self, covered, coded):
        need(len(coded) <= 64 << 10, f"{self.name}: a segment is too large")
        reader, number, block, offset, done = Bytes(coded), 0, 0, 0, 0
        while reader.more():
            word = reader.varint()
            length, code = word >> 2, word & 3
            need(1 <= length <= 2**40, f"{self.name}: a run of {length} bytes")
            if code == 0:
                block, offset = block + 1, 0
            elif code == 1:
                offset += reader.varint()
            elif code == 2:
                block, offset = block + reader.zigzag(), reader.varint()
            else:
                number, block, offset = number + reader.zigzag(), reader.varint(), reader.varint()
            pack, use = self.pack(number)
            done += length
            while True:
                need(0 <= block < len(pack.blocks) and pack.blocks[block] is not None, f"{self.name}: no such block")
                need(use[block // 4] >> (block % 4 * 2) & 3, f"{self.name}: a block is used that is marked unused")
                content = pack.blocks[block][offset : offset + length]
                need(offset < len(pack.blocks[block]), f"{self.name}: a run begins behind its block")
                yield content
                length, offset = length - len(content), offset + len(content)
                if not length:
                    break
                block, offset = block + 1, 0
        need(done == covered, f"{self.name}: a segment covers another length")

    def write_stream(self, stream, output):
        digest = blake3.blake3(key=self.digest_key)
        for covered, coded in stream["segments"]:
            for content in self.read_segment(covered, coded):
                digest.update(content)
                if output:
                    output.write(content)
        need(digest.digest() == stream["digest"], f"{self.name}: {stream['name']} has another digest")

    def verify_rest(self):
        """What no stream reads: packs in the table that none uses, ends of meta objects."""
        for number in range(len(self.pack_table)):
            self.pack(number)
        for index, (name, data) in enumerate(self.meta):
            frames = sorted(place[1:] for place in self.used_meta if place[0] == index)
            counter, end = (frames[-1][0] + 1, frames[-1][1] + frames[-1][2]) if frames else (0, 40)
            # Frames that nothing refers to may stand before the last one.
            between = max(len(data) - 16 - end, 0) // 17
            need(len(data) - 16 >= end and any(self.ends(name, data, counter + n) for n in range(between + 1)),
                 f"{name} has no last frame")

    def ends(self, name, data, counter):
        try:
            return self.sealed.unseal(name, data[8:40], counter, 1, data[-16:]) == b""
        except Damage:
            return False


def read_notes(sealed):
    """Sessions, heartbeats, decisions, and what the collector and a removal of keys note."""
    forms = {"sessions": SESSION, "beats": rf"{SESSION}-{NUMBER}", "decisions": rf"{SESSION}-{NUMBER}",
             "condemned": NUMBER, "blockers": NUMBER, "verdict": NUMBER, "marks": NUMBER,
             "leaving": "[a-z2-7]{26}", "written-off": SESSION, "ledger": "[a-z2-7]{26}"}
    notes = []
    for folder, form in forms.items():
        for name in sealed.names(folder):
            need(re.fullmatch(f"{folder}/{form}", name), f"{name} is a foreign object")
            notes.append((name, parse_json(sealed.object(name))))
    return notes


def extract(snapshot, folder):
    if folder:
        folder.mkdir(parents=True)
    names = []
    for number, stream in enumerate(snapshot.streams):
        if folder:
            with open(folder / str(number), "wb") as output:
                snapshot.write_stream(stream, output)
        else:
            snapshot.write_stream(stream, None)
        names.append({"name": stream["name"], "length": stream["length"]})
    if folder:
        (folder / "streams.json").write_text(json.dumps(names))


def read(sealed, output):
    packs, heads, snapshots, tombstones = Packs(sealed), [], [], []
    digests = {}
    forgotten = {note["session"] for name, note in read_notes(sealed)
                 if name.startswith("decisions/") and note["decision"] == "Forgotten"}
    for name in sealed.names("snapshots"):
        if name.removeprefix("snapshots/") in forgotten:
            continue
        need(re.fullmatch(f"snapshots/{SESSION}", name), f"{name} is a foreign object")
        snapshot = Snapshot(sealed, packs, name, sealed.load(name))
        digests[snapshot.id] = snapshot.stored_digest
        if snapshot.form == 2:
            tombstones.append(snapshot.id)
            continue
        if snapshot.is_repacking():
            packs.repackings.append(snapshot)
        else:
            heads.append(snapshot)
    for snapshot in packs.repackings:
        snapshot.verify_rest()
    for snapshot in heads:
        extract(snapshot, output / snapshot.id if output else None)
        snapshot.verify_rest()
        snapshots.append({"id": snapshot.id, "about": snapshot.about, "report": snapshot.report,
                          "streams": len(snapshot.streams), "packs": len(snapshot.pack_table),
                          "metaObjects": len(snapshot.meta),
                          "segmentsOutside": sum(stream["outside"] for stream in snapshot.streams)})
    for snapshot in snapshots:
        before = snapshot["about"].get("predecessor")
        need(not before or digests.get(before["id"], before["digest"]) == before["digest"],
             f"{snapshot['id']}: the predecessor is another one")
    return {"repositoryId": sealed.id.hex(), "snapshots": snapshots, "tombstones": tombstones,
            "repackings": len(packs.repackings),
            "notes": [name for name, _ in read_notes(sealed)]}


def open_repository(arguments):
    secret = Secret(arguments.passphrase_file, arguments.key_file)
    sealed = Sealed(arguments.folder, secret)
    need(bool(sealed.cipher) == secret.is_given(), "a key for a repository in clear, or none for an encrypted one")
    return sealed


def main():
    parser = argparse.ArgumentParser(description="reads a repository of dbbackup in a folder")
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument("--passphrase-file")
    secret.add_argument("--key-file")
    parser.add_argument("folder")
    parser.add_argument("output", nargs="?", type=pathlib.Path)
    arguments = parser.parse_args()
    try:
        json.dump(read(open_repository(arguments), arguments.output), sys.stdout)
    except (Damage, KeyError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
