"""One Ansible run each in a process of its own: the request, the supervisor, and the verdict for its parent."""
