"""The patches that an API server takes: JSON patch, merge patch, strategic merge patch and server-side apply.

The strategic merge and the apply know the lists and maps of the kinds of the stub (kube_cluster.py). Fields that an
earlier apply of the same manager had set, and that a later one leaves out, stay: the stub tracks no owners of fields.
"""

import copy

# Lists whose items are merged by a key: the name of the list, and in what it stands where that decides.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "conditions": "type",
    "ownerReferences": "uid",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
# Maps that a server-side apply replaces as a whole. A strategic merge patch merges them.
ATOMIC = {("Service", ("spec", "selector")), ("Deployment", ("spec", "selector")), ("ReplicaSet", ("spec", "selector"))}


class BadPatch(Exception):
    """A patch that an API server would refuse."""


def merge(into, patch):
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    into = into if isinstance(into, dict) else {}
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        else:
            into[key] = merge(into.get(key), value)
    return into


def merge_strategically(into, patch, atomic=frozenset(), path=()):
    """A strategic merge patch, or with `atomic` (paths) a server-side apply."""
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace" or path in atomic or not isinstance(into, dict):
        return {key: clean(value) for key, value in patch.items() if value is not None and not key.startswith("$")}
    kept = patch.get("$retainKeys")
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            into[name] = [item for item in into.get(name, []) if item not in value]
        elif key.startswith("$"):
            continue  # $setElementOrder: the order of items is not of interest here
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            into.pop(key, None)
        elif isinstance(value, list):
            into[key] = merge_list(into.get(key) or [], value, key, atomic, (*path, key))
        else:
            into[key] = merge_strategically(into.get(key), value, atomic, (*path, key))
    if kept is not None:
        for key in [key for key in into if key not in kept]:
            del into[key]
    return into


def clean(value):
    """What of a patch becomes part of an object that has nothing in its place."""
    if isinstance(value, dict):
        return merge_strategically({}, value)
    return [clean(item) for item in value] if isinstance(value, list) else value


def merge_list(into, patch, name, atomic, path):
    key = MERGE_KEYS.get(name)
    if name == "ports":
        key = "containerPort" if any("containerPort" in item for item in [*into, *patch]) else "port"
    if key is None or not all(isinstance(item, dict) for item in [*into, *patch]):
        return clean(patch)
    items = [] if any(item == {"$patch": "replace"} for item in patch) else list(into)
    for item in patch:
        if key not in item:
            if "$patch" in item:
                continue
            raise BadPatch(f"map: {item} does not contain declared merge key: {key}")
        at = next((at for at, old in enumerate(items) if old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del items[at]
        elif at is None:
            items.append(clean(item))
        else:
            items[at] = merge_strategically(items[at], item, atomic, path)
    return items


def apply(into, manifest):
    """A server-side apply."""
    kind = manifest.get("kind") or into.get("kind")
    return merge_strategically(into, manifest, {path for of, path in ATOMIC if of == kind})


def json_patch(obj, operations):
    """A JSON patch (RFC 6902)."""
    obj = {"": obj}
    for operation in operations:
        name, pointer = operation["op"], operation["path"]
        if name in ("copy", "move"):
            operation = {**operation, "value": copy.deepcopy(read(obj, operation["from"]))}
            if name == "move":
                change(obj, operation["from"], "remove", None)
            name = "add"
        if name == "test":
            if read(obj, pointer) != operation.get("value"):
                raise BadPatch(f"testing path {pointer} failed")
            continue
        change(obj, pointer, name, copy.deepcopy(operation.get("value")))
    return obj[""]


def steps(pointer):
    return [""] + [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def enter(value, step):
    try:
        return value[int(step)] if isinstance(value, list) else value[step]
    except (KeyError, IndexError, ValueError, TypeError):
        raise BadPatch(f"the path has no {step}: missing value") from None


def read(obj, pointer):
    for step in steps(pointer):
        obj = enter(obj, step)
    return obj


def change(obj, pointer, name, value):
    *before, last = steps(pointer)
    for step in before:
        obj = enter(obj, step)
    if name != "add":
        enter(obj, last)
    if isinstance(obj, list) and name == "add":
        obj.insert(len(obj) if last == "-" else int(last), value)
    elif name == "remove":
        del obj[int(last) if isinstance(obj, list) else last]
    else:
        obj[int(last) if isinstance(obj, list) else last] = value
