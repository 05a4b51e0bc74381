"""The four dashboards: overview, rounds, fleet, secure aggregation. Pure."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Board, Panel, PanelUnit, lines, spread, stat


def _quantiles(title: str, question: str, histogram: str, by: str = "", *, traced: bool = False) -> Panel:
    labels = f"le, {by}" if by else "le"
    rate = f"sum by ({labels}) (rate({histogram}_bucket[$__rate_interval]))"
    of = f"{{{{{by}}}}} " if by else ""
    return lines(
        title,
        question,
        PanelUnit.SECONDS,
        (f"histogram_quantile(0.5, {rate})", f"{of}half"),
        (f"histogram_quantile(0.95, {rate})", f"{of}95 %"),
        exemplars=traced,
    )


OVERVIEW: Final = Board(
    uid="ravan-overview",
    title="Ravan: overview",
    panels=(
        stat("Sites online", "Is the fleet there?", 'max(ravan_sites{state="online"})'),
        stat("Jobs running", "Is there work?", 'max(ravan_jobs{state="running"})'),
        stat("Jobs paused", "Does a job need somebody?", 'max(ravan_jobs{state="paused"})'),
        stat(
            "Since the last version",
            "Since when has nothing come out?",
            "time() - max(ravan_last_commit_timestamp_seconds > 0)",
            PanelUnit.SECONDS,
        ),
        lines(
            "Accuracy",
            "Do the models get better?",
            PanelUnit.RATIO,
            ("max by (exported_job) (ravan_model_accuracy)", "{{exported_job}}"),
        ),
        lines(
            "Loss",
            "Do they still learn where the accuracy stands still?",
            PanelUnit.COUNT,
            ("max by (exported_job) (ravan_model_loss)", "{{exported_job}}"),
        ),
        lines(
            "Rounds that ended in the last hour",
            "Do rounds end in new versions, and if not, why?",
            PanelUnit.COUNT,
            ("sum by (outcome) (increase(ravan_rounds_total[1h]))", "{{outcome}}"),
        ),
        lines(
            "Free disk",
            "When is the disk full?",
            PanelUnit.BYTES,
            ("ravan_disk_free_bytes", "free at {{instance}}"),
            ("sum by (kind) (ravan_disk_bytes)", "{{kind}}"),
        ),
        _quantiles("Transactions", "Is the database slow?", "ravan_store_seconds"),
        lines(
            "Calls by status",
            "Which calls fail?",
            PanelUnit.PER_SECOND,
            ("sum by (outcome) (rate(ravan_rpc_seconds_count[$__rate_interval]))", "{{outcome}}"),
        ),
        lines(
            "The coordinator's memory",
            "How much memory does it take?",
            PanelUnit.BYTES,
            ('process_resident_memory_bytes{job="ravan"}', "{{instance}}"),
        ),
        lines(
            "Who leads",
            "Does exactly one process lead?",
            PanelUnit.COUNT,
            ("ravan_lease_held", "{{instance}}"),
        ),
    ),
)

ROUNDS: Final = Board(
    uid="ravan-rounds",
    title="Ravan: rounds",
    panels=(
        lines(
            "Phase now",
            "Where do the rounds stand?",
            PanelUnit.COUNT,
            ("sum by (phase) (ravan_round_phase)", "{{phase}}"),
        ),
        _quantiles(
            "Time of phases", "Which part of a round takes the time?", "ravan_round_phase_seconds", "phase", traced=True
        ),
        lines(
            "Participation in an hour",
            "Which part of the sites that are asked comes through?",
            PanelUnit.RATIO,
            ("ravan:participation:ratio1h", "{{instance}}"),
        ),
        lines(
            "Sites that drop out, by reason",
            "Why do sites drop out?",
            PanelUnit.COUNT,
            ("sum by (reason) (increase(ravan_site_drops_total[1h]))", "{{reason}}"),
        ),
        lines(
            "Sites that drop out, by phase",
            "In which phase?",
            PanelUnit.COUNT,
            ("sum by (phase) (increase(ravan_site_drops_total[1h]))", "{{phase}}"),
        ),
        lines(
            "Time for training",
            "How long may a round take?",
            PanelUnit.SECONDS,
            ("max(ravan_training_deadline_seconds)", "deadline"),
        ),
        lines(
            "Heavy work",
            "Are there enough workers?",
            PanelUnit.COUNT,
            ("max by (state) (ravan_tasks)", "{{state}}"),
        ),
        lines(
            "Jobs",
            "Which jobs need somebody?",
            PanelUnit.COUNT,
            ("max by (state) (ravan_jobs)", "{{state}}"),
            ("max(ravan_queued_jobs)", "queued"),
        ),
    ),
)

FLEET: Final = Board(
    uid="ravan-fleet",
    title="Ravan: fleet",
    panels=(
        lines("Sites", "Is the fleet there?", PanelUnit.COUNT, ("max by (state) (ravan_sites)", "{{state}}")),
        lines(
            "What sites do",
            "What is the fleet busy with?",
            PanelUnit.COUNT,
            ("sum by (activity) (ravan_site_activities)", "{{activity}}"),
        ),
        lines(
            "Releases",
            "How far is an upgrade of the fleet?",
            PanelUnit.COUNT,
            ("sum by (release) (ravan_site_releases)", "{{release}}"),
        ),
        lines(
            "Certificates by their end",
            "Do the sites renew their certificates?",
            PanelUnit.COUNT,
            ("max by (ends) (ravan_site_certificates)", "{{ends}}"),
        ),
        lines(
            "Time until certificates end",
            "Which certificate has to be renewed?",
            PanelUnit.SECONDS,
            ("min by (certificate) (ravan_certificate_expiry_seconds)", "{{certificate}}"),
        ),
        lines(
            "Sites that rest",
            "How many sites fail again and again?",
            PanelUnit.COUNT,
            ("max(ravan_resting_sites)", "resting"),
        ),
        spread("Memory of agents", "What does the agent take?", "ravan_site_resident_bytes", PanelUnit.BYTES),
        spread("Memory beside its limit", "How many come near it?", "ravan_site_memory_ratio", PanelUnit.RATIO),
        spread("Free disk at sites", "How many PCs are short of it?", "ravan_site_disk_free_bytes", PanelUnit.BYTES),
        spread("A training step", "How unlike are the PCs?", "ravan_site_step_cpu_seconds", PanelUnit.SECONDS),
        spread("Silence", "Do heartbeats arrive in time?", "ravan_site_silence_seconds", PanelUnit.SECONDS),
        spread("Clocks", "How many PCs have a wrong clock?", "ravan_site_clock_skew_seconds", PanelUnit.SECONDS),
    ),
)

SECURE_AGGREGATION: Final = Board(
    uid="ravan-secure-aggregation",
    title="Ravan: secure aggregation",
    panels=(
        lines(
            "Sites behind a head",
            "How many sites does a sum hide among?",
            PanelUnit.COUNT,
            (
                "sum(rate(ravan_head_cohort_sum[$__rate_interval]))"
                " / sum(rate(ravan_head_cohort_count[$__rate_interval]))",
                "mean, withheld ones as 0",
            ),
        ),
        lines(
            "Heads that stay masked",
            "How many bundles are too thin?",
            PanelUnit.RATIO,
            ("ravan:withheld_heads:ratio1h", "{{instance}}"),
        ),
        _quantiles(
            "Removing the masks", "What does secure aggregation cost here?", "ravan_unmask_seconds", traced=True
        ),
        lines(
            "Masked bytes",
            "What do uploads take of the line?",
            PanelUnit.BYTES_PER_SECOND,
            ("sum(rate(ravan_masked_bytes_total[$__rate_interval]))", "received"),
        ),
        lines(
            "Drop-outs after keys were agreed",
            "How many masks have to be taken off by shares?",
            PanelUnit.COUNT,
            ('sum by (phase) (increase(ravan_site_drops_total{phase!="training"}[1h]))', "{{phase}}"),
        ),
        lines(
            "Breaches of the protocol",
            "Does anybody break a rule, or do masks not cancel?",
            PanelUnit.COUNT,
            ('sum(increase(ravan_site_drops_total{reason="protocol"}[1h]))', "sites"),
            ('sum(increase(ravan_rounds_total{outcome="canary_mismatch"}[1h]))', "rounds discarded"),
        ),
        lines(
            "Time of its phases",
            "Where does a round wait?",
            PanelUnit.SECONDS,
            (
                'sum by (phase) (rate(ravan_round_phase_seconds_sum{phase=~"sharing|uploading|confirming|revealing"}'
                "[$__rate_interval])) / sum by (phase) (rate(ravan_round_phase_seconds_count[$__rate_interval]))",
                "{{phase}}",
            ),
        ),
        lines(
            "Bases sent",
            "Does any site compute other bits?",
            PanelUnit.COUNT,
            ("sum(increase(ravan_basis_downloads_total[1h]))", "downloads"),
        ),
    ),
)

BOARDS: Final = (OVERVIEW, ROUNDS, FLEET, SECURE_AGGREGATION)
