"""The part of a guest's configuration that is drawn once, when the guest is made.

Owns what tells one incarnation of a number from the next: hardware address, creation time, generation id.
"""

import random
from datetime import datetime

from simulators.proxmox.state import Kind


def hardware(kind: Kind, vmid: int, rng: random.Random, now: datetime) -> dict[str, str | int]:
    """Draw the options of a new guest that nobody changes later, as `GET …/config` shows them."""
    address = "BC:24:11:" + ":".join(f"{rng.randrange(256):02X}" for _ in range(3))
    if kind is Kind.LXC:
        return {
            "arch": "amd64",
            "cores": 1,
            "memory": 512,
            "net0": f"name=eth0,bridge=vmbr0,firewall=1,hwaddr={address},ip=dhcp,type=veth",
            "ostype": "debian",
            "rootfs": f"local-lvm:vm-{vmid}-disk-0,size=8G",
            "swap": 512,
            "unprivileged": 1,
        }
    serial = f"{rng.getrandbits(128):032x}"
    return {
        "boot": "order=scsi0",
        "cores": 2,
        "memory": "2048",  # a property string since Proxmox VE 8, unlike a container's
        "meta": f"creation-qemu=10.1.2,ctime={int(now.timestamp())}",
        "net0": f"virtio={address},bridge=vmbr0,firewall=1",
        "ostype": "l26",
        "scsi0": f"local-lvm:vm-{vmid}-disk-0,size=32G",
        "sockets": 1,
        "vmgenid": "-".join((serial[:8], serial[8:12], serial[12:16], serial[16:20], serial[20:])),
    }
