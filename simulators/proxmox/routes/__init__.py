"""Every endpoint that the simulator serves; a path that is not here answers 501."""

from simulators.proxmox.endpoints import Endpoint
from simulators.proxmox.routes import access, cluster, guests, pools, storage, tasks

ENDPOINTS: tuple[Endpoint, ...] = (
    *cluster.ENDPOINTS,
    *guests.ENDPOINTS,
    *tasks.ENDPOINTS,
    *storage.ENDPOINTS,
    *access.ENDPOINTS,
    *pools.ENDPOINTS,
)
