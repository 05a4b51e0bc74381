"""Which check answers which attack, and which test fails without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check, how to take it out, and who notices."""

    attack: str
    """Row of the attack table, or what a dishonest agent does."""
    file: str
    snippet: str
    """The check as it stands in the file, once."""
    removed: str
    """What stands there without it."""
    test: str


_REVEAL: Final = "ravan/secagg/agent_reveal.py"
_SHARING: Final = "ravan/secagg/agent_sharing.py"
_TERMS: Final = "ravan/secagg/terms.py"
_SEALING: Final = "ravan/secagg/sealing.py"
_PHASES: Final = "ravan/secagg/coordinator_phases.py"
_SESSION: Final = "edge_agent/session/machine.py"
_ACCEPTANCE: Final = "edge_agent/session/acceptance.py"

_SURVIVORS: Final = "tests/ravan/secagg/test_lies_about_survivors.py::"
_BEFORE: Final = "tests/ravan/secagg/test_lies_before_masking.py::"
_REPLAYS: Final = "tests/ravan/secagg/test_replays.py::"
_MACHINE: Final = "tests/edge_agent/session/test_session_machine.py::"
_KEYS: Final = "tests/ravan/secagg/test_unusable_terms.py::"
_REFUSALS: Final = "tests/ravan/secagg/test_coordinator_refusals.py::"
_FAULTS: Final = "tests/ravan/secagg/test_unmask_faults.py::"
_SITES: Final = "tests/coordinator/rounds/test_lying_sites.py::"

COORDINATOR: Final = (
    Check(
        attack="thin cells: cut through by what members score",
        file="ravan/secagg/cells.py",
        snippet="assignment.members[index].allotment, []",
        removed="(assignment.members[index].tiles,), []",
        test="tests/ravan/secagg/test_weighted_profile.py::"
        "test_no_combination_of_released_weights_is_about_fewer_than_a_cell",
    ),
    Check(
        attack="both lists: another set than the signed one",
        file=_REVEAL,
        snippet="        _check_same(self.signed, request.survivor_set)\n        self._check_signatures(request)",
        removed="        self._check_signatures(request)",
        test=_SURVIVORS + "test_both_lists",
    ),
    Check(
        attack="both lists: a member twice in the one list",
        file=_REVEAL,
        snippet="if not is_ascending(survivors) or not set(view.mask_set).issuperset(survivors):",
        removed="if not set(view.mask_set).issuperset(survivors):",
        test=_SURVIVORS + "test_a_member_twice_in_the_one_list",
    ),
    Check(
        attack="both lists: one signature counted twice",
        file=_REVEAL,
        snippet="if not is_ascending(signers) or not set(self.signed.survivors).issuperset(signers):",
        removed="if not set(self.signed.survivors).issuperset(signers):",
        test="tests/ravan/secagg/test_agent_refusals.py::test_reveal_needs_t_right_signatures_of_distinct_survivors",
    ),
    Check(
        attack="equivocation about survivors: too few signed the same set",
        file=_REVEAL,
        snippet="if len(signers) < self.view.roster.threshold:",
        removed="if False:",
        test=_SURVIVORS + "test_equivocation_about_survivors",
    ),
    Check(
        attack="equivocation about survivors: signatures of other sets",
        file=_REVEAL,
        snippet="            verify(members[signature.index].identity_key, signature.signature, message, what)",
        removed="            pass",
        test=_SURVIVORS + "test_equivocation_about_survivors",
    ),
    Check(
        attack="equivocation about survivors: a second set to sign",
        file=_REVEAL,
        snippet="    if asked != signed:\n",
        removed="    if False:\n",
        test="tests/ravan/secagg/test_agent_refusals.py::test_a_second_survivor_set_is_never_signed",
    ),
    Check(
        attack="a second reveal for another survivor set",
        file=_REVEAL,
        snippet="        _check_same(self.signed, request.survivor_set)\n        return self, (SendReveal",
        removed="        return self, (SendReveal",
        test=_SURVIVORS + "test_a_second_reveal_for_another_survivor_set",
    ),
    Check(
        attack="key substitution: another's round keys",
        file=_TERMS,
        snippet='    verify(identity, entry.signature, message, f"member {entry.index}\'s round keys")\n',
        removed="",
        test=_BEFORE + "test_key_substitution",
    ),
    Check(
        attack="key substitution: the own round keys",
        file=_TERMS,
        snippet="    if own not in roster.entries:\n",
        removed="    if False:\n",
        test=_BEFORE + "test_the_own_key_replaced",
    ),
    Check(
        attack="key substitution: one key in two places",
        file=_TERMS,
        snippet="    if len(keys) != 2 * len(entries):\n",
        removed="    if False:\n",
        test="tests/ravan/secagg/test_agent_refusals.py::test_roster_that_does_not_hold",
    ),
    Check(
        attack="key substitution: another identity than before",
        file="edge_agent/session/acquaintances.py",
        snippet="            elif keys[member.site] != member.identity_key:\n",
        removed="            elif False:\n",
        test="tests/edge_agent/session/test_acquaintances.py::test_another_key_is_refused_by_name_with_what_to_do",
    ),
    Check(
        attack="key substitution: the own identity",
        file=_ACCEPTANCE,
        snippet="    if len(own) != 1 or own[0].identity_key != terms.identity_key:\n",
        removed="    if len(own) != 1:\n",
        test=_MACHINE + "test_an_assignment_that_does_not_fit_is_refused",
    ),
    Check(
        attack="planted peers: strangers in the roster",
        file=_TERMS,
        snippet="if not is_ascending(finishers) or not set(finishers) <= set(range(len(assignment.members))):",
        removed="if not is_ascending(finishers):",
        test=_BEFORE + "test_a_planted_peer_in_the_roster",
    ),
    Check(
        attack="planted peers: one identity under two names",
        file=_TERMS,
        snippet="    if len({member.identity_key for member in members}) != len(members):\n",
        removed="    if False:\n",
        test="tests/ravan/secagg/test_agent_refusals.py::test_members_blocks_and_tiles_must_be_sound",
    ),
    Check(
        attack="planted peers: a survivor who never masked",
        file=_REVEAL,
        snippet="if not is_ascending(survivors) or not set(view.mask_set).issuperset(survivors):",
        removed="if not is_ascending(survivors):",
        test=_SURVIVORS + "test_a_planted_survivor_who_never_masked",
    ),
    Check(
        attack="absent peers: this site is not in the mask set",
        file=_SHARING,
        snippet="        if self.context.index not in members:\n",
        removed="        if False:\n",
        test=_BEFORE + "test_absent_peers",
    ),
    Check(
        attack="absent peers: masks with one who dealt no shares",
        file=_SHARING,
        snippet="        if delivery.ciphertexts.keys() != set(members) - {self.context.index}:\n",
        removed="        if False:\n",
        test=_BEFORE + "test_absent_peers",
    ),
    Check(
        attack="absent peers: too few to hold the shares",
        file=_SHARING,
        snippet="        if len(members) < self.known.threshold:\n",
        removed="        if False:\n",
        test=_BEFORE + "test_absent_peers",
    ),
    Check(
        attack="small cohort: in the assignment",
        file=_TERMS,
        snippet="    if assignment.bundle_threshold < floor:\n",
        removed="    if False:\n",
        test=_BEFORE + "test_a_small_cohort_in_the_assignment",
    ),
    Check(
        attack="small cohort: below the site's own policy",
        file=_TERMS,
        snippet="    floor = max(policy_floor, BUNDLE_FLOOR)\n",
        removed="    floor = BUNDLE_FLOOR\n",
        test=_BEFORE + "test_a_small_cohort_in_the_assignment",
    ),
    Check(
        attack="small cohort: in the whole roster",
        file=_TERMS,
        snippet="    if len(finishers) < assignment.bundle_threshold:\n",
        removed="    if False:\n",
        test=_BEFORE + "test_a_small_cohort_in_the_roster",
    ),
    Check(
        attack="small cohort: in a bundle of the roster",
        file=_TERMS,
        snippet=" or roster.bundles != plan_bundles(assignment, finishers):",
        removed=":",
        test=_BEFORE + "test_a_small_cohort_in_the_roster",
    ),
    Check(
        attack="small cohort: among the survivors of a bundle",
        file=_REVEAL,
        snippet="    if survivor_set.bundles != approved:\n",
        removed="    if False:\n",
        test=_SURVIVORS + "test_a_small_cohort_among_the_survivors",
    ),
    Check(
        attack="small cohort: among all survivors",
        file=_REVEAL,
        snippet="    if len(survivors) < view.roster.threshold:\n",
        removed="    if False:\n",
        test=_SURVIVORS + "test_too_few_survivors_for_the_shares_to_protect_anybody",
    ),
    Check(
        attack="changed manifest: a roster of another assignment",
        file=_TERMS,
        snippet="    if roster.assignment_digest != assignment_digest:\n",
        removed="    if False:\n",
        test=_BEFORE + "test_a_changed_manifest_under_the_old_digest",
    ),
    Check(
        attack="changed manifest: a lower Shamir threshold",
        file=_TERMS,
        snippet="    if roster.threshold != shamir_threshold(len(finishers)) or ",
        removed="    if ",
        test=_BEFORE + "test_a_changed_manifest_under_the_old_digest",
    ),
    Check(
        attack="changed manifest: no signature of the coordinator's manifest key",
        file="ravan/codec/documents.py",
        snippet='    verify(manifest_public_key, signed.signature, message, f"the coordinator\'s {kind.value}")\n',
        removed="",
        test="tests/ravan/codec/test_signed_documents.py::test_another_key_is_refused",
    ),
    Check(
        attack="changed manifest: an unsigned document is refused aloud, not passed over",
        file=_SESSION,
        snippet="leave, *self._prepare_next()\n\n    def _close",
        removed="*self._prepare_next()\n\n    def _close",
        test=_MACHINE + "test_an_instruction_that_cannot_be_read_ends_the_round",
    ),
    Check(
        attack="replayed shares: of another round, receiver or sender",
        file=_SEALING,
        snippet="        plain = AESGCM(key).decrypt(_nonce(sender, receiver), ciphertext[1:], bound)\n",
        removed="        plain = AESGCM(key).encrypt(_nonce(sender, receiver), ciphertext[1:-16], bound)[:-16]\n",
        test=_REPLAYS + "test_replayed_shares",
    ),
    Check(
        attack="replayed shares: sent back to who sealed them",
        file=_SEALING,
        snippet="        plain = AESGCM(key).decrypt(_nonce(sender, receiver), ciphertext[1:], bound)\n",
        removed="        plain = AESGCM(key).encrypt(_nonce(sender, receiver), ciphertext[1:-16], bound)[:-16]\n",
        test=_REPLAYS + "test_shares_sent_back_to_who_sealed_them_or_to_somebody_else",
    ),
    Check(
        attack="replayed round: an older one",
        file=_SESSION,
        snippet="        if number < highest:\n",
        removed="        if False:\n",
        test=_MACHINE + "test_older_rounds_are_refused_and_newer_ones_taken",
    ),
    Check(
        attack="replayed round: the same one in a new process",
        file=_SESSION,
        snippet="        if number == highest and not goes_on:\n",
        removed="        if False:\n",
        test=_MACHINE + "test_a_round_of_an_earlier_process_is_left",
    ),
    Check(
        attack="replayed round: a second mask over the same keys",
        file=_SHARING,
        snippet="        return Masking(view, job), (Mask(job=job),)\n",
        removed="        return self, (Mask(job=job),)\n",
        test=_REPLAYS + "test_a_replayed_round_masks_nothing_twice",
    ),
    Check(
        attack="different models to different agents",
        file="ravan/secagg/transcript.py",
        snippet="    return encode(Label.ADVERTISE, data(assignment_digest), u16(index)",
        removed="    return encode(Label.ADVERTISE, u16(index)",
        test=_BEFORE + "test_different_models_or_settings_to_different_agents",
    ),
    Check(
        attack="different models to different agents: another base model than the plan's",
        file=_ACCEPTANCE,
        snippet="    if assignment.model_digest != model_digest(plan.model_files):\n",
        removed="    if False:\n",
        test=_MACHINE + "test_an_assignment_that_does_not_fit_is_refused",
    ),
    Check(
        attack="changed training settings: another plan than the one that was prepared",
        file=_SESSION,
        snippet="        plan = self._prepared.get(assignment.plan_digest)\n",
        removed="        plan = next(iter(self._prepared.values()), None)\n",
        test=_MACHINE + "test_other_settings_than_those_that_were_prepared_are_refused",
    ),
    Check(
        attack="changed training settings: too few steps for the site's policy",
        file=_ACCEPTANCE,
        snippet="    if steps < terms.minimum_steps:\n",
        removed="    if False:\n",
        test=_MACHINE + "test_policy_refuses_at_preparation",
    ),
    Check(
        attack="late upload: declared dead although it uploaded",
        file=_REVEAL,
        snippet="    if view.context.index not in survivors:\n",
        removed="    if False:\n",
        test=_SURVIVORS + "test_a_late_upload_of_one_declared_dead",
    ),
    Check(
        attack="late upload: self masks of the dead",
        file=_REVEAL,
        snippet="        if owner not in self.signed.survivors:\n",
        removed="        if False:\n",
        test=_SURVIVORS + "test_a_late_upload_of_one_declared_dead",
    ),
)
"""What agents check."""

AGENTS: Final = (
    Check(
        attack="sealed shares that do not open: who dealt them is left out",
        file="coordinator/rounds/suspicions.py",
        snippet="        self.convicted.add(suspect)\n        return True\n",
        removed="        return False\n",
        test=_SITES + "test_a_site_whose_shares_open_for_nobody_is_named_and_the_next_round_goes_on_without_it",
    ),
    Check(
        attack="sealed shares that do not open: the word of a few convicts nobody",
        file="coordinator/rounds/suspicions.py",
        snippet="        if suspect in self.convicted or len(accusers) <= tolerated:\n",
        removed="        if suspect in self.convicted:\n",
        test=_SITES + "test_one_site_alone_convicts_nobody",
    ),
    Check(
        attack="wrong signature: round keys",
        file=_PHASES,
        snippet="        check_entry(self._assignment, self._digest, advertisement)\n",
        removed="",
        test=_SITES + "test_a_site_that_sends_nonsense_is_dropped_and_the_others_commit",
    ),
    Check(
        attack="a key that is of no use to anybody",
        file=_TERMS,
        snippet="    if not (is_usable(entry.mask_key) and is_usable(entry.channel_key)):\n",
        removed="    if False:\n",
        test=_KEYS + "test_a_member_with_a_key_of_low_order_is_refused_before_others_meet_it",
    ),
    Check(
        attack="wrong length: sealed shares",
        file=_PHASES,
        snippet="        if any(len(ciphertext) != size for ciphertext in shares.ciphertexts.values()):\n",
        removed="        if False:\n",
        test=_SITES + "test_a_site_that_sends_nonsense_is_dropped_and_the_others_commit",
    ),
    Check(
        attack="wrong length: masked vector",
        file=_PHASES,
        snippet=" or header.size_bytes != size:",
        removed=":",
        test=_REFUSALS + "test_upload_header_that_does_not_hold",
    ),
    Check(
        attack="wrong bundle",
        file=_PHASES,
        snippet="        if header.bundles != tuple(bundle.bundle_id for bundle in bundles) or ",
        removed="        if ",
        test=_REFUSALS + "test_upload_header_that_does_not_hold",
    ),
    Check(
        attack="wrong signature: masked vector",
        file=_PHASES,
        snippet='        settled.verify(index, header.signature, message, "its masked vector")\n',
        removed="",
        test=_SITES + "test_a_site_that_sends_nonsense_is_dropped_and_the_others_commit",
    ),
    Check(
        attack="wrong signature: survivor set",
        file=_PHASES,
        snippet='        self._settled.verify(index, signature.signature, message, "the survivor set")\n',
        removed="",
        test=_SITES + "test_a_site_that_sends_nonsense_is_dropped_and_the_others_commit",
    ),
    Check(
        attack="out of range",
        file="ravan/secagg/combine.py",
        snippet="        if np.abs(values).max() > count * assignment.quantum_limit or clipped > count:\n",
        removed="        if False:\n",
        test=_SITES + "test_a_value_that_no_honest_site_sends_gives_no_version",
    ),
    Check(
        attack="out of range: a score",
        file="ravan/secagg/combine.py",
        snippet="        if max(scores.values(), default=0) > count * score_limit(self._assignment.ring_bits):\n",
        removed="        if False:\n",
        test="tests/ravan/secagg/test_scores.py::test_a_score_that_honest_members_cannot_have_is_refused",
    ),
    Check(
        attack="masks that do not cancel",
        file="ravan/secagg/unmask.py",
        snippet="        if int(total[position]) != expected:\n",
        removed="        if False:\n",
        test=_SITES + "test_a_vector_in_which_masks_do_not_cancel_gives_no_version",
    ),
    Check(
        attack="NaN",
        file="ravan/quantisation.py",
        snippet="    if not np.isfinite(norm):\n",
        removed="    if False:\n",
        test="tests/edge_agent/secure/test_secure_round.py::test_nan_never_leaves",
    ),
    Check(
        attack="wrong shares: the wrong kind",
        file=_PHASES,
        snippet="            self._check_kind(index, owner, share)\n",
        removed="            pass\n",
        test=_SITES + "test_a_site_that_sends_nonsense_is_dropped_and_the_others_commit",
    ),
    Check(
        attack="wrong shares: on another polynomial",
        file="ravan/secagg/recovery.py",
        snippet="    if consistent(points, shares, threshold):\n",
        removed="    if True:\n",
        test=_FAULTS + "test_more_answers_name_more_liars",
    ),
    Check(
        attack="wrong shares: of another key",
        file="ravan/secagg/recovery.py",
        snippet="    return _Solution(secret=value, wrong=()) if _belongs(secret, value) else None\n",
        removed="    return _Solution(secret=value, wrong=())\n",
        test=_FAULTS + "test_with_t_answers_a_wrong_seed_share_is_noticed_by_the_public_key",
    ),
    Check(
        attack="in another's name",
        file="coordinator/rounds/machine.py",
        snippet="    if claimed != index:\n",
        removed="    if False:\n",
        test=_SITES + "test_a_flood_leaves_nothing_behind_and_holds_nobody_up",
    ),
    Check(
        attack="a flood of repeats",
        file="ravan/secagg/coordinator.py",
        snippet="        return earlier is not None\n",
        removed="        return False\n",
        test=_REFUSALS + "test_repeats_are_ignored_in_every_phase_and_contradictions_never",
    ),
    Check(
        attack="a flood of messages after being dropped",
        file="coordinator/rounds/attendance.py",
        snippet="        if absence is not None:\n",
        removed="        if False:\n",
        test=_SITES + "test_a_flood_leaves_nothing_behind_and_holds_nobody_up",
    ),
    Check(
        attack="a flood of calls",
        file="ravan/rpc/server.py",
        snippet=", maximum_concurrent_rpcs=most)",
        removed=")",
        test="tests/ravan/rpc/test_guard.py::test_a_flood_is_turned_away_at_the_cap_and_calls_in_progress_go_on",
    ),
    Check(
        attack="a flood of calls of one site",
        file="ravan/rpc/admission.py",
        snippet="        if not ledger.bucket.take(now):\n",
        removed="        if False:\n",
        test="tests/ravan/rpc/test_admission.py::test_a_site_that_calls_too_fast_is_refused_and_the_others_are_not",
    ),
)
"""What the coordinator, or an agent about itself, checks."""

CHECKS: Final = (*COORDINATOR, *AGENTS)
