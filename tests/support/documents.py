"""Small documents of every format that the scan reads, made from lines of text, and ways to spoil them."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from xml.sax.saxutils import escape

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def docx(lines, extra=None):
    paragraphs = "".join(
        # Every word in runs of its own, as editors leave them behind.
        "<w:p>"
        + "".join(f'<w:r><w:t xml:space="preserve">{escape(half)}</w:t></w:r>' for half in halves(line))
        + "</w:p>"
        for line in lines
    )
    return zipped({
        "[Content_Types].xml": "<Types/>",
        "word/document.xml": f'<w:document xmlns:w="{W}"><w:body>{paragraphs}</w:body></w:document>',
        **(extra or {}),
    })  # fmt: skip


def halves(line):
    middle = len(line) // 2
    return line[:middle], line[middle:]


def xlsx(rows):
    strings = sorted({cell for row in rows for cell in row})
    shared = "".join(f"<si><t>{escape(text)}</t></si>" for text in strings)
    body = "".join(
        "<row>" + "".join(f'<c t="s"><v>{strings.index(cell)}</v></c>' for cell in row) + "</row>" for row in rows
    )
    return zipped({
        "[Content_Types].xml": "<Types/>",
        "xl/sharedStrings.xml": f'<sst xmlns="{S}">{shared}</sst>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{S}"><sheetData>{body}</sheetData></worksheet>',
    })  # fmt: skip


def pptx(lines):
    shapes = "".join(f"<a:p><a:r><a:t>{escape(line)}</a:t></a:r></a:p>" for line in lines)
    return zipped({"[Content_Types].xml": "<Types/>", "ppt/slides/slide1.xml": f'<p xmlns:a="{A}">{shapes}</p>'})


def odt(lines):
    body = "".join(f"<text:p>{escape(line)}</text:p>" for line in lines)
    return zipped({
        "mimetype": "application/vnd.oasis.opendocument.text",
        "content.xml": f'<office xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0">{body}</office>',
    })  # fmt: skip


def rtf(lines):
    return ("{\\rtf1\\ansi{\\fonttbl{\\f0 Arial;}}" + "\\par ".join(lines) + "}").encode("cp1252")


def pdf(lines, field=None, image=False):
    """One page of text; ``field`` is (name, value) of a form field; ``image``: a picture in place of the text."""
    if image:
        stream = "q 500 0 0 700 0 0 cm /I Do Q"
    else:
        shown = " ".join(
            "(" + line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") + ") '" for line in lines
        )
        stream = f"BT /F 11 Tf 14 TL 40 760 Td {shown} ET"
    widget = "null"
    if field:
        widget = f"<</Type/Annot/Subtype/Widget/FT/Tx/T({field[0]})/V({field[1]})/Rect[40 40 300 60]/P 3 0 R>>"
    picture = "<</Type/XObject/Subtype/Image/Width 2/Height 2/ColorSpace/DeviceGray/BitsPerComponent 8/Length 4>>"
    picture += "stream\n\0\0\0\0\nendstream"
    objects = [
        "<</Type/Catalog/Pages 2 0 R" + ("/AcroForm<</Fields[6 0 R]>>" if field else "") + ">>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R"
        "/Resources<</Font<</F 5 0 R>>/XObject<</I 7 0 R>>>>" + ("/Annots[6 0 R]" if field else "") + ">>",
        f"<</Length {len(stream)}>>stream\n{stream}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        widget,
        picture,
    ]  # fmt: skip
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj{body}endobj\n".encode("latin-1")
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def gz(content):
    return gzip.compress(content, mtime=0)


def locked_zip(name, content):
    """A ZIP whose entry says that it is encrypted."""
    data = bytearray(zipped({name: content}))
    data[6] |= 1
    central = data.rindex(b"PK\x01\x02")
    data[central + 8] |= 1
    return bytes(data)


def hl7(family="QUINTANA", given="MARIBEL", mrn="4471829"):
    return "\r".join([
        "MSH|^~\\&|LAB|NORTHGATE|EHR|CLINIC|20261122090000||ORU^R01|1|P|2.5",
        f"PID|1||{mrn}^^^NG^MR||{family}^{given}^A||{'19620314' if family else ''}|F|||410 MAIN ST^^SPRINGFIELD^IL",
        "OBX|1|NM|4548-4^Hemoglobin A1c^LN||8.1|%|4.0-6.0|H|||F",
    ]).encode()  # fmt: skip


def x12(family="QUINTANA"):
    isa = "ISA*00*          *00*          *ZZ*SENDER         *ZZ*RECEIVER       *261122*0900*^*00501*000000001*0*P*:~"
    patient = f"NM1*IL*1*{family}*MARIBEL****MI*W123456789~DMG*D8*19620314*F~" if family else ""
    return (isa + "GS*HC*S*R*20261122*0900*1*X*005010X222A1~ST*837*0001~" + patient + "HI*ABK:E119~SE*5*0001~").encode()


def fhir(patient=True):
    entries = [{"resource": {"resourceType": "Observation", "code": {"text": "Hemoglobin A1c"}, "status": "final"}}]
    if patient:
        entries.append({"resource": {
            "resourceType": "Patient", "id": "4471829", "birthDate": "1962-03-14",
            "name": [{"family": "Quintana", "given": ["Maribel"]}],
        }})  # fmt: skip
    return json.dumps({"resourceType": "Bundle", "entry": entries}).encode()


def cda(patient=True):
    role = (
        '<recordTarget><patientRole><id extension="4471829" root="1.2"/><patient><name><given>Maribel</given>'
        '<family>Quintana</family></name><birthTime value="19620314"/></patient></patientRole></recordTarget>'
    )
    return (
        '<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"><title>Summary</title>'
        + (role if patient else "")
        + '<component><text>Type 2 diabetes</text><value displayName="Hypertension"/></component></ClinicalDocument>'
    ).encode()


def dicom(name="QUINTANA^MARIBEL"):
    def element(group, number, kind, value):
        value += b" " * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, kind, len(value)) + value

    meta = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0")
    head = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta
    body = element(8, 0x60, b"CS", b"CT") + element(0x10, 0x10, b"PN", name.encode())
    if name:
        body += element(0x10, 0x20, b"LO", b"4471829") + element(0x10, 0x30, b"DA", b"19620314")
    return bytes(128) + b"DICM" + head + body


def png(width, height):
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\0\0\0\0" + b"\0" * 4000


def compound(streams):
    """An OLE compound file, version 3: sectors of 512 octets, every stream padded past the mini-stream cutoff."""
    sector, free, end, fat_mark = 512, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
    folders = sorted({name.rsplit("/", 1)[0] for name in streams if "/" in name})
    entries = [("Root Entry", 5, "", b"")]
    entries += [(folder.rsplit("/", 1)[-1], 1, folder.rpartition("/")[0], b"") for folder in folders]
    entries += [(name.rsplit("/", 1)[-1], 2, name.rpartition("/")[0], data.ljust(4096, b"\0"))
                for name, data in streams.items()]  # fmt: skip
    index = {"": 0, **{folder: 1 + place for place, folder in enumerate(folders)}}
    directory_sectors = -(-len(entries) // 4)
    fat, blob, starts = [], bytearray(), {}
    total = directory_sectors + sum(-(-len(entry[3]) // sector) for entry in entries)
    fat_sectors = -(-(total + 4) // 128)
    fat += [fat_mark] * fat_sectors
    for place in range(directory_sectors):
        fat.append(fat_sectors + place + 1 if place + 1 < directory_sectors else end)
    for number, entry in enumerate(entries):
        if not entry[3]:
            continue
        count = -(-len(entry[3]) // sector)
        starts[number] = len(fat)
        fat += [len(fat) + step + 1 for step in range(count - 1)] + [end]
        blob += entry[3].ljust(count * sector, b"\0")
    fat += [free] * (fat_sectors * 128 - len(fat))
    directory = bytearray()
    for number, (name, kind, _parent, data) in enumerate(entries):
        mine = [place for place, entry in enumerate(entries) if place and index.get(entry[2], 0) == number]
        is_folder = kind in {1, 5}
        children = [place for place in mine if is_folder]
        siblings = [place for place, entry in enumerate(entries) if place and number and entry[2] == entries[number][2]]
        right = next((place for place in siblings if place > number), free)
        wide = name.encode("utf-16-le")
        directory += wide.ljust(64, b"\0") + struct.pack(
            "<HBBIII16sIQQII", len(wide) + 2, kind, 1, free, right, children[0] if children else free, bytes(16),
            0, 0, 0, starts.get(number, end if kind == 2 else 0 if kind == 1 else end), len(data),
        ) + struct.pack("<I", 0)  # fmt: skip
    directory = directory.ljust(directory_sectors * sector, b"\0")
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16) + struct.pack(
        "<HHHHH6xIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, fat_sectors, fat_sectors, 0, 4096, end, 0, end, 0
    )  # fmt: skip
    header += b"".join(struct.pack("<I", place if place < fat_sectors else free) for place in range(109))
    return header + b"".join(struct.pack("<I", value) for value in fat) + bytes(directory) + bytes(blob)


def msg(subject, lines, attachment=None):
    streams = {
        "__properties_version1.0": b"",
        "__substg1.0_0037001F": subject.encode("utf-16-le"),
        "__substg1.0_1000001F": "\r\n".join(lines).encode("utf-16-le"),
    }
    if attachment:
        streams["__attach_version1.0_#00000000/__substg1.0_3707001F"] = attachment[0].encode("utf-16-le")
        streams["__attach_version1.0_#00000000/__substg1.0_37010102"] = attachment[1]
    return compound(streams)


def doc(lines):
    """Word 97: a FIB, one piece of 8-bit text, and its CLX in the table stream."""
    text = "\r".join(lines).encode("cp1252")
    fib = bytearray(0x400)
    fib[0:2] = b"\xec\xa5"
    struct.pack_into("<H", fib, 0x0A, 0x0200)
    clx = b"\x02" + struct.pack("<I", 4 * 2 + 8) + struct.pack("<II", 0, len(text))
    clx += struct.pack("<HIH", 0, 0x4000_0000 | (len(fib) * 2), 0)
    struct.pack_into("<II", fib, 0x01A2, 0, len(clx))
    return compound({"WordDocument": bytes(fib) + text, "1Table": clx})


def locked_office():
    return compound({"EncryptedPackage": b"x" * 64, "EncryptionInfo": b"x" * 64})


def tnef(subject, lines=(), files=(), nested=None, html="", rich=b""):
    """A winmail.dat as Exchange writes it: attributes, and the rest in properties. ``nested`` is another."""
    out = bytearray(b"\x78\x9f\x3e\x22\x01\x00")

    def attribute(level, identifier, value):
        out.extend(struct.pack("<BII", level, identifier, len(value)) + value + struct.pack("<H", sum(value) & 0xFFFF))

    attribute(1, 0x00089006, struct.pack("<I", 0x10000))  # its version
    attribute(1, 0x00069007, struct.pack("<II", 1252, 0))
    attribute(1, 0x00018004, subject.encode("cp1252") + b"\0")
    if lines:
        attribute(1, 0x0002800C, "\r\n".join(lines).encode("cp1252") + b"\0")
    told = [(0x0003, 0x0017, struct.pack("<I", 1)), (0x001F, 0x0C1A, "Northgate Lab\0".encode("utf-16-le"))]
    told += [(0x0102, 0x1013, html.encode())] if html else []
    told += [(0x0102, 0x1009, rich)] if rich else []
    attribute(1, 0x00069003, properties(told))
    for name, content in files:
        attribute(2, 0x00069002, bytes(14))
        attribute(2, 0x00018010, b"SHORT~1.DAT\0")
        attribute(2, 0x0006800F, content)
        attribute(2, 0x00069005, properties([(0x001F, 0x3707, (name + "\0").encode("utf-16-le"))]))
    if nested:
        attribute(2, 0x00069002, bytes(14))
        attribute(2, 0x00069005, properties([(0x000D, 0x3701, bytes(16) + nested)]))
    return bytes(out)


def properties(told):
    """Properties as TNEF writes them: (type, tag, value)."""
    out = struct.pack("<I", len(told) + 1)
    name = "Keywords\0".encode("utf-16-le")
    name += bytes(-len(name) % 4)
    out += struct.pack("<HH16sII", 0x101F, 0x8001, bytes(16), 1, 18) + name
    out += struct.pack("<II4s", 1, 4, "a\0".encode("utf-16-le"))  # a named one with several values
    for kind, tag, value in told:
        out += struct.pack("<HH", kind, tag)
        if kind in {0x1E, 0x1F, 0x0D, 0x0102}:
            out += struct.pack("<II", 1, len(value))
        out += value + bytes(-len(value) % 4)
    return out


def packed_rtf(content):
    """Rich text as [MS-OXRTFCP] packs it, in literals and one reference to the dictionary's beginning."""
    opening = b"{\\rtf1\\ansi"
    assert content.startswith(opening)
    tokens = [struct.pack(">H", 0 << 4 | len(opening) - 2), *(bytes([octet]) for octet in content[len(opening) :])]
    end = (207 + len(content)) % 4096
    tokens.append(struct.pack(">H", end << 4))
    body = bytearray()
    for start in range(0, len(tokens), 8):
        run = tokens[start : start + 8]
        body.append(sum(1 << bit for bit, token in enumerate(run) if len(token) == 2))
        body += b"".join(run)
    checksum = zlib.crc32(body, 0xFFFFFFFF) ^ 0xFFFFFFFF  # without the usual inversions
    return struct.pack("<II4sI", len(body) + 12, len(content), b"LZFu", checksum) + bytes(body)
