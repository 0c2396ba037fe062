"""Stand-ins for a Proxmox VE cluster and a Stripe account, good enough to develop against."""
