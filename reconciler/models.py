"""Tables of the reconciler: servers, holds, observations, restore records, steps, runs, plans, its own state.

Owns columns and their meaning; no logic. Partial unique indexes and CHECKs live in the migrations.
"""

from typing import Any

from tortoise import fields
from tortoise.models import Model

from billing.models import Account
from billing.rules.terms import HoldCause, Stage
from billing.stored import Stored
from reconciler.rules.outcome import Outcome
from reconciler.rules.terms import Deployment, GuestKind, Lane, Mode, Power, RunState, StepKind, StepState


class Server(Stored):
    """What an account pays for. Written by `reconciler.servers`."""

    id = fields.BigIntField(primary_key=True)
    external_id = fields.CharField(max_length=200, unique=True)
    account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="servers", on_delete=fields.RESTRICT
    )
    account_id: int
    name = fields.CharField(max_length=300)
    site = fields.CharField(max_length=64)
    site_node = fields.CharField(max_length=100, null=True)
    kind = fields.CharEnumField(GuestKind, max_length=32)
    #: The platform's own id; null until it was deployed.
    guest = fields.CharField(max_length=200, null=True)
    sku = fields.CharField(max_length=100)
    #: The rate saved at deployment or at the last change of size, in 10^-6 minor units per hour; 0: not metered.
    rate = fields.BigIntField(default=0)
    free = fields.BooleanField(default=False)
    critical = fields.BooleanField(default=False)
    stripe_subscription_id = fields.CharField(max_length=64, null=True, db_index=True)
    deployment = fields.CharEnumField(Deployment, max_length=32)
    deployed_at = fields.DatetimeField(null=True)
    #: When its size was last changed after its deployment: its rate is the price of that day.
    resized_at = fields.DatetimeField(null=True)
    retired_at = fields.DatetimeField(null=True)
    #: The creation mark read of the guest; another mark under the same id is another guest.
    marker = fields.CharField(max_length=200, null=True)
    missing_since = fields.DatetimeField(null=True)
    #: When it came to its account: registered, transferred, back after it was missing, or not free any more. A billing
    #: hold comes on a server that joined during an episode only after a notice that names it.
    joined_at = fields.DatetimeField()
    #: `serverPowerSet(RUNNING)` asked for a start that no restore record covers; null once it was done or withdrawn.
    start_wanted_at = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField()

    class Meta:
        table = "server"
        # The last three for staff who look for the few that are being set up, missing or gone.
        indexes = (
            ("account_id", "retired_at"),
            ("site", "site_node"),
            ("deployment",),
            ("missing_since",),
            ("retired_at",),
        )


class Hold(Stored):
    """One reason, owned by one cause, why one server is restricted. At most one open per server and cause.

    Billing holds are written by `reconciler.standing`, the others by `reconciler.servers`.
    """

    id = fields.BigIntField(primary_key=True)
    server: fields.ForeignKeyRelation[Server] = fields.ForeignKeyField(
        "abeyance.Server", related_name="holds", on_delete=fields.RESTRICT
    )
    server_id: int
    cause = fields.CharEnumField(HoldCause, max_length=32)
    stops_server = fields.BooleanField(default=False)
    locks_backups = fields.BooleanField(default=False)
    locks_account = fields.BooleanField(default=False)
    #: The stage that placed a billing hold; null for other causes.
    stage = fields.CharEnumField(Stage, max_length=32, null=True)
    reason = fields.TextField()
    placed_by = fields.CharField(max_length=200)
    since = fields.DatetimeField()
    expires_at = fields.DatetimeField(null=True)
    lifted_at = fields.DatetimeField(null=True)
    lifted_by = fields.CharField(max_length=200, null=True)

    class Meta:
        table = "hold"
        indexes = (("server_id", "lifted_at"),)


class Observation(Model):
    """What was last read of one server's guest. Written by `reconciler.observe` and from read-backs."""

    id = fields.BigIntField(primary_key=True)
    server: fields.OneToOneRelation[Server] = fields.OneToOneField(
        "abeyance.Server", related_name="observation", on_delete=fields.RESTRICT
    )
    server_id: int
    observed_at = fields.DatetimeField()
    #: When the guest was last seen there; `observed_at` goes on when a complete reading does not show it.
    seen_at = fields.DatetimeField(null=True)
    power = fields.CharEnumField(Power, max_length=32, default=Power.UNKNOWN)
    node = fields.CharField(max_length=100, null=True)
    #: What keeps the guest busy (a lock, a backup that makes it look running); null when nothing does.
    busy = fields.TextField(null=True)
    #: Complete observations of its site in a row that did not show the guest.
    absences = fields.IntField(default=0)
    #: Since when the guest is seen with our mark of a stop on it; null: without, as last read.
    marked_at = fields.DatetimeField(null=True)
    #: The deep part: null until a deep observation.
    deep_at = fields.DatetimeField(null=True)
    onboot = fields.BooleanField(null=True)
    protection = fields.BooleanField(null=True)
    digest = fields.CharField(max_length=100, null=True)
    protected_backups: Any = fields.JSONField(null=True)
    unprotected_backups: Any = fields.JSONField(null=True)

    class Meta:
        table = "observation"


class SiteState(Model):
    """How the observation of one site stands. Written by `reconciler.observe`."""

    site = fields.CharField(max_length=64, primary_key=True)
    attempted_at = fields.DatetimeField(null=True)
    #: The last observation that showed every node and every guest it may see.
    complete_at = fields.DatetimeField(null=True)
    silent_nodes: Any = fields.JSONField(default=list)
    problem = fields.TextField(null=True)
    #: With what the site's token could destroy something, as last told.
    excess: Any = fields.JSONField(default=list)
    #: Who answers: the first that did, or was accepted since. By node where each stands for itself, else under "".
    identities: Any = fields.JSONField(default=dict)

    class Meta:
        table = "site_state"


class RestorePart(Stored):
    """One thing that a dispatch of ours changed or may have changed, with what it found there.

    The restore record of a server (or of an account's access on a site) is its open parts. `part` is "power", "onboot",
    "protection", "backups" (that they were locked at all), "backup" (with `volume`) or "role". At most one open row per
    owner, part and volume. Written by `reconciler.restore_record`.
    """

    id = fields.BigIntField(primary_key=True)
    server_id = fields.BigIntField(null=True, db_index=True)
    account_id = fields.BigIntField(null=True, db_index=True)
    site = fields.CharField(max_length=64)
    part = fields.CharField(max_length=32)
    volume = fields.CharField(max_length=255, default="")
    #: What was found, as text: "RUNNING", "STOPPED", "true", "false", a role's name.
    found = fields.TextField()
    step_id = fields.BigIntField()
    taken_at = fields.DatetimeField()
    closed_at = fields.DatetimeField(null=True)
    #: Why it was closed: "restored", "changed_by_others", "did_nothing", "retired".
    closed_because = fields.CharField(max_length=64, null=True)

    class Meta:
        table = "restore_part"


class Run(Model):
    """One execution of an action on one site. Written by `reconciler.dispatch`."""

    id = fields.BigIntField(primary_key=True)
    #: The name of its private folder and its process tag.
    tag = fields.CharField(max_length=64, unique=True)
    action = fields.CharField(max_length=64)
    site = fields.CharField(max_length=64)
    node = fields.CharField(max_length=100, null=True)
    lane = fields.CharEnumField(Lane, max_length=32)
    state = fields.CharEnumField(RunState, max_length=32, default=RunState.RUNNING)
    plan_digest = fields.CharField(max_length=64)
    requested_by = fields.CharField(max_length=200)
    started_at = fields.DatetimeField()
    finished_at = fields.DatetimeField(null=True)
    verified_gone = fields.BooleanField(default=False)
    #: A person wants it to end before its time; never set for a run that gives something back.
    cancel_wanted_at = fields.DatetimeField(null=True)
    log = fields.TextField(default="")
    problem = fields.TextField(null=True)

    class Meta:
        table = "run"
        indexes = (("state", "site"), ("action", "site"))


class Step(Model):
    """One dispatched change of one server, or of one account's access on a site.

    At most one `DISPATCHED` or `UNKNOWN` per server and per account and site, by partial unique indexes.
    Written by `reconciler.dispatch`.
    """

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharEnumField(StepKind, max_length=32)
    state = fields.CharEnumField(StepState, max_length=32)
    account_id = fields.BigIntField(db_index=True)
    server_id = fields.BigIntField(null=True, db_index=True)
    site = fields.CharField(max_length=64)
    node = fields.CharField(max_length=100, null=True)
    lane = fields.CharEnumField(Lane, max_length=32)
    action = fields.CharField(max_length=64)
    reason = fields.TextField()
    requested_by = fields.CharField(max_length=200)
    plan_digest = fields.CharField(max_length=64)
    facts_version = fields.BigIntField()
    #: What was observed of the guest and committed when the step was dispatched; the restore record for undoing steps.
    expect: Any = fields.JSONField(default=dict)
    run: fields.ForeignKeyNullableRelation[Run] = fields.ForeignKeyField(
        "abeyance.Run", related_name="steps", on_delete=fields.RESTRICT, null=True, db_index=True
    )
    run_id: int | None
    dispatched_at = fields.DatetimeField()
    finished_at = fields.DatetimeField(null=True)
    outcome = fields.CharEnumField(Outcome, max_length=32, null=True)
    message = fields.TextField(default="")
    before: Any = fields.JSONField(null=True)
    after: Any = fields.JSONField(null=True)
    #: Attempts in a row at the same change; drives the back-off.
    attempt = fields.IntField(default=1)
    #: No step of this kind on this owner starts before this instant.
    retry_at = fields.DatetimeField(null=True)

    class Meta:
        table = "step"
        indexes = (("state", "site"), ("server_id", "kind"))


class PlanSnapshot(Model):
    """The last computed plans, as the pass wrote them; the API reads, it never computes."""

    id = fields.BigIntField(primary_key=True)
    digest = fields.CharField(max_length=64, db_index=True)
    at = fields.DatetimeField()
    mode = fields.CharEnumField(Mode, max_length=32)
    content: Any = fields.JSONField()
    text = fields.TextField()

    class Meta:
        table = "plan_snapshot"


class Admission(Model):
    """One row for each climb that the guard let happen; the blast radius of a day is counted from it."""

    id = fields.BigIntField(primary_key=True)
    account_id = fields.BigIntField()
    episode_id = fields.BigIntField()
    policy = fields.CharField(max_length=64)
    from_stage = fields.CharEnumField(Stage, max_length=32)
    to_stage = fields.CharEnumField(Stage, max_length=32)
    #: Whether the new stage has effects that the old one had not; only these count for the blast radius.
    larger = fields.BooleanField()
    plan_digest = fields.CharField(max_length=64)
    at = fields.DatetimeField(db_index=True)

    class Meta:
        table = "admission"


class ReconcilerState(Model):
    """One row: what holds for the whole reconciler. Written by `reconciler.safety` and the pass."""

    id = fields.IntField(primary_key=True, generated=False)
    #: Raised with every pass and mirrored in the state folder: tells a restored database.
    generation = fields.BigIntField(default=0)
    first_apply_at = fields.DatetimeField(null=True)
    last_mode = fields.CharEnumField(Mode, max_length=32, null=True)
    left_apply_at = fields.DatetimeField(null=True)
    #: Notices sent before this instant open no stage: the product was outside `apply` for too long since.
    notices_void_before = fields.DatetimeField(null=True)
    paused_at = fields.DatetimeField(null=True)
    paused_by = fields.CharField(max_length=200, null=True)
    paused_reason = fields.TextField(null=True)
    breaker_open_at = fields.DatetimeField(null=True)
    breaker_reason = fields.TextField(null=True)
    safe_mode_since = fields.DatetimeField(null=True)
    safe_mode_reason = fields.TextField(null=True)
    last_pass_at = fields.DatetimeField(null=True)

    class Meta:
        table = "reconciler_state"
