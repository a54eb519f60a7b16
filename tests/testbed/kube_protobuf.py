"""Reads the objects that clients send as protobuf, as far as clients of the stub do: kubectl create and Helm 4.

A message is described by its fields: number → (name, type). The types are `text`, `bytes`, `int`, `bool`, a message,
`[type]` for a list, and `{type}` for a map from text. The numbers are those of the generated.proto files of k8s.io/api.
"""

import base64

META = {
    1: ("name", "text"),
    2: ("generateName", "text"),
    3: ("namespace", "text"),
    11: ("labels", {"text"}),
    12: ("annotations", {"text"}),
}
PORT = {1: ("name", "text"), 3: ("containerPort", "int"), 4: ("protocol", "text")}
CONTAINER = {
    1: ("name", "text"),
    2: ("image", "text"),
    3: ("command", ["text"]),
    4: ("args", ["text"]),
    6: ("ports", [PORT]),
}
TEMPLATE = {1: ("metadata", META), 2: ("spec", {2: ("containers", [CONTAINER]), 3: ("restartPolicy", "text")})}
SELECTOR = {1: ("matchLabels", {"text"})}
KINDS = {
    "Secret": {
        1: ("metadata", META),
        2: ("data", {"bytes"}),
        3: ("type", "text"),
        4: ("stringData", {"text"}),
        5: ("immutable", "bool"),
    },
    "ConfigMap": {1: ("metadata", META), 2: ("data", {"text"}), 3: ("binaryData", {"bytes"})},
    "Namespace": {1: ("metadata", META)},
    "Deployment": {
        1: ("metadata", META),
        2: ("spec", {1: ("replicas", "int"), 2: ("selector", SELECTOR), 3: ("template", TEMPLATE)}),
    },
}
UNKNOWN = {1: ("typeMeta", {1: ("apiVersion", "text"), 2: ("kind", "text")}), 2: ("raw", "raw")}
MAGIC = b"k8s\x00"


def is_protobuf(body):
    return body.startswith(MAGIC)


def read_object(body):
    """The object in an envelope of Kubernetes; `None` if its kind is not known here."""
    envelope = read_message(body[len(MAGIC) :], UNKNOWN)
    kind = envelope["typeMeta"]["kind"]
    return {**envelope["typeMeta"], **read_message(envelope["raw"], KINDS[kind])} if kind in KINDS else None


def read_message(data, fields):
    message, at = {}, 0
    while at < len(data):
        tag, at = read_number(data, at)
        if tag & 7 == 0:
            value, at = read_number(data, at)
        elif tag & 7 == 2:
            size, at = read_number(data, at)
            value, at = data[at : at + size], at + size
        else:
            value, at = None, at + (8 if tag & 7 == 1 else 4)
        name, kind = fields.get(tag >> 3, (None, None))
        if name is None:
            continue
        if isinstance(kind, set):
            entry = read_message(value, {1: ("key", "text"), 2: ("value", next(iter(kind)))})
            message.setdefault(name, {})[entry["key"]] = entry.get("value", "")
        elif isinstance(kind, list):
            message.setdefault(name, []).append(read_value(value, kind[0]))
        elif value not in (b"", None):
            message[name] = read_value(value, kind)
    return message


def read_value(value, kind):
    if isinstance(kind, dict):
        return read_message(value, kind)
    return {
        "text": lambda: value.decode(),
        "bytes": lambda: base64.b64encode(value).decode(),
        "raw": lambda: value,
        "int": lambda: value,
        "bool": lambda: bool(value),
    }[kind]()


def read_number(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not byte & 0x80:
            return number, at
