"""A Proxmox VE cluster to develop against: stateful, slow where the real one is slow, and refusing what it refuses.

It is a simulator and says so: what it knows of Proxmox VE was read in its sources (9.x) and never measured
on a real cluster. It destroys nothing, and records every call that would have.
"""

from simulators.proxmox.app import create_app
from simulators.proxmox.cluster import Cluster
from simulators.proxmox.server import Tls, running, serve

__all__ = ["Cluster", "Tls", "create_app", "running", "serve"]
