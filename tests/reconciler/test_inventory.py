"""The inventory as the product reads it, and the one clear error for everything that can be wrong in it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.inventory import Inventory, InventoryError, Platform, SiteMode, load_inventory

ROOT = Path(__file__).resolve().parents[2]
SITE = {
    "site_platform": "proxmox",
    "site_endpoint": "https://pve.example:8006",
    "site_token_id": "reconciler@pve!abeyance",
    "site_token_env": "ZRH1_TOKEN",
}
ROLES = {
    "site_pool_pattern": "customer-{account}",
    "site_customer_role": "Customer",
    "site_suspended_role": "SuspendedCustomer",
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an inventory: one site `zrh1` with the given variables, or a whole tree."""

    def make(
        variables: dict[str, Any] | None = None, *, tree: Any = None, files: dict[str, str] | None = None
    ) -> Path:
        site = {"vars": {**SITE, **(variables or {})}, "hosts": {"pve1": {}, "pve2": None}}
        site["vars"] = {name: value for name, value in site["vars"].items() if value is not ...}
        content = tree if tree is not None else {"all": {"children": {"zrh1": site}}}
        (tmp_path / "hosts.yml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        for name, text in (files or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return make


def test_the_shipped_inventories_are_right() -> None:
    """The demo's and the example's load as they are; the folder above them has no sites of its own."""
    demo = load_inventory(ROOT / "inventory/demo").site("demo")
    assert demo is not None
    assert (demo.platform, demo.mode, demo.node_names) == (Platform.PROXMOX, SiteMode.APPLY, ("pve1", "pve2"))
    assert demo.pool_for("acct-1") == "customer-acct-1"
    example = load_inventory(ROOT / "inventory/example")
    assert [(site.name, site.mode) for site in example.sites] == [("relays", "plan"), ("zrh1", "plan")]
    zrh1 = example.site("zrh1")
    assert zrh1 is not None
    assert [node.in_flight for node in zrh1.nodes] == [4, 2]
    if not (ROOT / "inventory/hosts.yml").exists():
        assert load_inventory(ROOT / "inventory").sites == ()


def test_it_reads_a_site_as_ansible_would(write: Write) -> None:
    """Variables come from the groups above, the files beside, and for a node from the host; the nearer one wins."""
    site = {"hosts": {"pve1": {"node_in_flight": 9}}, "children": {"rack2": {"hosts": {"pve2": None}}}}
    tree = {"all": {"vars": {"shutdown_grace_seconds": 60}, "children": {"zrh1": site}}}
    folder = write(
        tree=tree,
        files={
            "group_vars/zrh1/site.yml": yaml.safe_dump(SITE),
            "group_vars/zrh1/more.yml": "site_mode: apply\nansible_user: me\nsite_backup_storages: [pbs, local]\n",
            "group_vars/rack2.yml": "node_rate_per_minute: 30\n",
            "host_vars/pve2.yml": "node_in_flight: 2\n",
        },
    )
    (found,) = load_inventory(folder).sites
    assert found.shutdown_grace_seconds == 60
    assert found.mode is SiteMode.APPLY
    assert found.backup_storages == ("pbs", "local")
    assert [(node.name, node.in_flight, node.rate_per_minute) for node in found.nodes] == [
        ("pve1", 9, 600),
        ("pve2", 2, 30),
    ]
    for node in found.nodes:
        seen = _as_ansible_sees(folder, node.name)
        assert seen["shutdown_grace_seconds"] == found.shutdown_grace_seconds
        assert (seen["node_in_flight"], seen.get("node_rate_per_minute", 600)) == (
            node.in_flight,
            node.rate_per_minute,
        )


def test_it_passes_over_what_is_encrypted(write: Write) -> None:
    """Sealed files and values are Ansible's own; a sealed value of ours is an error."""
    files = {
        "group_vars/zrh1/sealed.yml": "$ANSIBLE_VAULT;1.1;AES256\n6162\n",
        "host_vars/pve2.yml": "ansible_become_password: !vault |\n  $ANSIBLE_VAULT\n",
    }
    assert load_inventory(write(files=files)).sites[0].node_names == ("pve1", "pve2")
    folder = write(
        {"site_mode": ...}, files={"group_vars/zrh1/mode.yml": "site_mode: !vault |\n  $ANSIBLE_VAULT\n"}
    )
    with pytest.raises(InventoryError, match=r"zrh1\.site_mode: a tagged value"):
        load_inventory(folder)


def _as_ansible_sees(folder: Path, host: str) -> Any:
    command = [sys.executable, "-m", "ansible", "inventory", "-i", str(folder / "hosts.yml"), "--host", host]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return yaml.safe_load(done.stdout)


def test_a_folder_without_hosts_has_no_sites(tmp_path: Path) -> None:
    """A fresh installation has none, and that is no error."""
    assert load_inventory(tmp_path) == Inventory(folder=tmp_path, sites=())


def test_it_looks_only_unless_told_to_act(write: Write) -> None:
    """`site_mode` left out is `plan`."""
    assert load_inventory(write()).sites[0].mode is SiteMode.PLAN


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown site name": ({"site_endpiont": "x"}, "zrh1.site_endpiont"),
    "unknown node name": ({"node_in_fligth": 4}, "zrh1.node_in_fligth"),
    "unknown platform": ({"site_platform": "vmware"}, "zrh1.site_platform"),
    "unknown mode": ({"site_mode": "on"}, "zrh1.site_mode"),
    "mode that YAML read": ({"site_mode": True}, "zrh1.site_mode"),
    "no endpoint": ({"site_endpoint": ...}, "zrh1.site_endpoint"),
    "endpoint without scheme": ({"site_endpoint": "pve.example:8006"}, "zrh1.site_endpoint"),
    "endpoint with a login": ({"site_endpoint": "https://root:pw@pve:8006"}, "zrh1.site_endpoint"),
    "template": ({"site_endpoint": "{{ lookup('env', 'X') }}"}, "zrh1.site_endpoint"),
    "blank": ({"site_endpoint": None}, "zrh1.site_endpoint"),
    "no token id": ({"site_token_id": ...}, "zrh1.site_token_id"),
    "token id of a user": ({"site_token_id": "root@pam"}, "zrh1.site_token_id"),
    "no token": ({"site_token_env": ...}, "zrh1.site_token_file"),
    "both tokens": ({"site_token_file": "secret"}, "zrh1.site_token_file"),
    "storage twice": ({"site_backup_storages": ["pbs", "pbs"]}, "zrh1.site_backup_storages"),
    "storages no list": ({"site_backup_storages": "pbs"}, "zrh1.site_backup_storages"),
    "pool for all": ({**ROLES, "site_pool_pattern": "customers"}, "zrh1.site_pool_pattern"),
    "pool with a space": ({**ROLES, "site_pool_pattern": "c {account}"}, "zrh1.site_pool_pattern"),
    "pool without role": ({**ROLES, "site_suspended_role": ...}, "zrh1.site_suspended_role"),
    "role without pool": ({"site_customer_role": "Customer"}, "zrh1.site_customer_role"),
    "same role": ({**ROLES, "site_suspended_role": "Customer"}, "zrh1.site_suspended_role"),
    "no grace": ({"shutdown_grace_seconds": 0}, "zrh1.shutdown_grace_seconds"),
    "grace as text": ({"shutdown_grace_seconds": "120"}, "zrh1.shutdown_grace_seconds"),
    "grace yes": ({"shutdown_grace_seconds": True}, "zrh1.shutdown_grace_seconds"),
    "width": ({"node_in_flight": 0}, "pve1.node_in_flight"),
    "rate": ({"node_rate_per_minute": -1}, "pve1.node_rate_per_minute"),
    "other platform's": ({"site_backup_dir": "/srv"}, "zrh1.site_backup_dir"),
    "sealed": ({"lxc_path": "/var/lib/lxc"}, "zrh1.lxc_path"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_a_wrong_value_names_file_field_and_remedy(write: Write, case: str) -> None:
    """One error, which says where to look, what was wrong and what would be right."""
    variables, where = WRONG[case]
    folder = write(variables)
    with pytest.raises(InventoryError) as found:
        load_inventory(folder)
    error = found.value
    assert (error.file, error.field) == (folder / "hosts.yml", where)
    assert len(error.remedy) > 5
    assert str(error).startswith(f"{folder}/hosts.yml: {where}: ")
    assert str(error).endswith(error.remedy)


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        (
            {"all": {"children": {n: {"vars": SITE, "hosts": {"pve1": None}} for n in ("zrh1", "zrh2")}}},
            "pve1",
        ),
        ({"all": {"children": {"Zurich-1": {"vars": SITE, "hosts": {"pve1": None}}}}}, "Zurich-1"),
        ({"all": {"children": {"zrh1": {"vars": SITE, "hosts": {"pve[1:9]": None}}}}}, "zrh1.hosts"),
        ({"all": {"children": {"zrh1": {"vars": SITE, "hosts": {"all": None}}}}}, "zrh1.hosts"),
        ({"all": {"children": {"zrh1": {"vars": SITE, "hosts": {"-x": None}}}}}, "zrh1.hosts"),
        ({"all": {"children": {"zrh1": {"vars": SITE}}}}, "zrh1.hosts"),
        (
            {"all": {"children": {"zrh1": {"vars": SITE, "hosts": {"pve1": {"site_mode": "apply"}}}}}},
            "pve1.site_mode",
        ),
        ({"all": {"children": {"zrh1": {"vars": SITE, "host": {"pve1": None}}}}}, "zrh1.host"),
        ({"all": {"children": {"zrh1": {"vars": SITE, "hosts": ["pve1"]}}}}, "zrh1.hosts"),
        (
            {"all": {"children": {"zrh1": {"vars": {"site_mode": "apply"}, "hosts": {"pve1": None}}}}},
            "zrh1.site_mode",
        ),
        ({"zrh1": {"vars": SITE, "hosts": {"pve1": None}}}, "all"),
        (
            {
                "all": {
                    "children": {
                        "zrh1": {
                            "vars": SITE,
                            "children": {"inner": {"vars": SITE, "hosts": {"pve1": None}}},
                        }
                    }
                }
            },
            "inner",
        ),
        ("all:\n  children:\n    zrh1: {\n", "line 4"),
        ("all:\n  vars: {}\n  vars: {}\n", "line 3"),
        ("- all\n", "all"),
    ],
)
def test_a_wrong_tree_names_file_field_and_remedy(write: Write, tree: Any, field: str) -> None:
    """Hosts in two sites, patterns as hosts, groups that are none and broken YAML each have their error."""
    folder = write(tree=tree)
    with pytest.raises(InventoryError) as found:
        load_inventory(folder)
    assert (found.value.file, found.value.field) == (folder / "hosts.yml", field)


def test_an_error_names_the_file_that_holds_the_field(write: Write) -> None:
    """A wrong value in group_vars is mended there."""
    folder = write({"site_mode": ...}, files={"group_vars/zrh1.yml": "site_mode: maybe\n"})
    with pytest.raises(InventoryError) as found:
        load_inventory(folder)
    assert found.value.file == folder / "group_vars/zrh1.yml"


def test_a_file_that_cannot_be_read_is_named(write: Write) -> None:
    """Not readable and not text are errors, not empty inventories."""
    folder = write()
    (folder / "hosts.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InventoryError, match=r"hosts\.yml: the file: cannot be read"):
        load_inventory(folder)
    (folder / "hosts.yml").unlink()
    (folder / "hosts.yml").mkdir()
    with pytest.raises(InventoryError, match="cannot be read"):
        load_inventory(folder)


def test_the_token_is_read_when_it_is_asked_for(write: Write) -> None:
    """From the environment or from a file beside the inventory; it is in no value and in no message."""
    secret = "0f0f-very-secret-0f0f"
    (by_name,) = load_inventory(write()).sites
    assert by_name.read_token({"ZRH1_TOKEN": f"{secret}\n"}) == secret
    for environment in ({}, {"ZRH1_TOKEN": ""}, {"ZRH1_TOKEN": f"{secret} twice"}):
        with pytest.raises(InventoryError, match=r"zrh1\.site_token_env") as found:
            by_name.read_token(environment)
        assert secret not in str(found.value)
    folder = write(
        {"site_token_env": ..., "site_token_file": "secrets/zrh1"}, files={"secrets/zrh1": f"{secret}\n"}
    )
    (by_file,) = load_inventory(folder).sites
    assert by_file.read_token({}) == secret
    assert secret not in repr(by_file)
    (folder / "secrets/zrh1").unlink()
    with pytest.raises(InventoryError, match=r"zrh1\.site_token_file"):
        by_file.read_token({})


def test_a_pool_is_named_after_one_account(write: Write) -> None:
    """Ids that would make no pool's name, or reach into another one's, are refused."""
    (site,) = load_inventory(write(ROLES)).sites
    assert site.pool_for("a-1.b_2") == "customer-a-1.b_2"
    for account in ("", "a b", "a/b", "a/../b", "{x}", "a\n", "ü", "a" * 80):
        with pytest.raises(InventoryError, match="site_pool_pattern"):
            site.pool_for(account)
    (without,) = load_inventory(write()).sites
    assert without.pool_for("a") is None


def test_an_lxc_site_needs_no_endpoint(write: Write) -> None:
    """Plain LXC has a path and perhaps a folder of backups, and nothing of Proxmox VE's."""
    lxc = {"site_platform": "lxc", "lxc_path": "/srv/lxc", "site_backup_dir": "/srv/backups"}
    tree = {
        "all": {
            "children": {"relays": {"vars": lxc, "hosts": {"relay1": None, "relay2": {"lxc_path": "/x"}}}}
        }
    }
    (site,) = load_inventory(write(tree=tree)).sites
    assert (site.platform, site.backup_dir, site.read_token({})) == (Platform.LXC, "/srv/backups", None)
    assert [node.lxc_path for node in site.nodes] == ["/srv/lxc", "/x"]


def test_it_needs_no_ansible() -> None:
    """Reading the inventory imports nothing of Ansible: it is done at every start."""
    code = "import sys, reconciler.inventory; sys.exit(any(name.split('.')[0] == 'ansible' for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0
