"""What the stub says of the kinds and features of its API."""

from kube_cluster import RESOURCES

VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def aggregated_discovery(core):
    """What clients of today ask first."""
    groups = {}
    for (group, version, plural), (kind, namespaced, short, subresources) in RESOURCES.items():
        if (group == "") != core:
            continue
        kind_of = {"group": group, "version": version, "kind": kind}
        entry = {
            "resource": plural,
            "responseKind": kind_of,
            "scope": "Namespaced" if namespaced else "Cluster",
            "singularResource": kind.lower(),
            "shortNames": short,
            "verbs": ["create"] if kind == "SelfSubjectAccessReview" else VERBS,
            "subresources": [
                {
                    "subresource": sub,
                    "verbs": ["get"] if sub == "log" else ["get", "patch", "update"],
                    "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}
                    if sub == "scale"
                    else kind_of,
                }
                for sub in subresources
            ],
        }
        groups.setdefault(group, {}).setdefault(version, []).append(entry)
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group} if group else {},
                "versions": [
                    {"version": version, "resources": entries, "freshness": "Current"}
                    for version, entries in versions.items()
                ],
            }
            for group, versions in groups.items()
        ],
    }


def discovery(parts):
    """What older clients ask: the groups, and the resources of each. `None` for other paths."""
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"]}
    groups = sorted({(group, version) for group, version, _ in RESOURCES if group})
    if parts == ["apis"]:
        versions = [(group, {"groupVersion": f"{group}/{version}", "version": version}) for group, version in groups]
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {"name": group, "versions": [version], "preferredVersion": version} for group, version in versions
            ],
        }
    prefix = {"api": "", "apis": None}.get(parts[0])
    place = ("", parts[1]) if prefix == "" else tuple(parts[1:])
    resources = []
    for (group, version, plural), (kind, namespaced, short, subresources) in RESOURCES.items():
        if (group, version) != place:
            continue
        resources.append(
            {
                "name": plural,
                "singularName": kind.lower(),
                "namespaced": namespaced,
                "kind": kind,
                "shortNames": short,
                "verbs": VERBS,
            }
        )
        resources += [
            {"name": f"{plural}/{sub}", "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get"]}
            for sub in subresources
        ]
    group_version = "/".join(filter(None, place))
    return {"kind": "APIResourceList", "groupVersion": group_version, "resources": resources} if resources else None


def openapi_v3(parts):
    """The part of the OpenAPI document that says to kubectl that the server validates fields and makes dry runs."""
    places = {("api", "v1") if not group else ("apis", group, version) for group, version, _ in RESOURCES}
    if not parts:
        return {"paths": {"/".join(place): {"serverRelativeURL": "/openapi/v3/" + "/".join(place)} for place in places}}
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in ("dryRun", "fieldValidation")]
    paths = {}
    for (group, version, plural), (kind, *_) in RESOURCES.items():
        if (("api", version) if not group else ("apis", group, version)) == tuple(parts):
            of = {"group": group, "version": version, "kind": kind}
            paths[f"/{'/'.join(parts)}/{plural}/{{name}}"] = {
                "parameters": [],
                "patch": {"parameters": parameters, "x-kubernetes-group-version-kind": of},
            }
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.35.0"},
        "paths": paths,
        "components": {"schemas": {}},
    }


# An OpenAPI document of version 2 without definitions, as protobuf: what Helm 3 validates manifests with.
OPENAPI_V2 = b"\x0a\x032.0\x12\x11\x0a\x0aKubernetes\x12\x03v1."
