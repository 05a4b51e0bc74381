"""The words of the status page in the languages that it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from coordinator.audit.chain import AuditKind
from coordinator.status.facts import Absence
from ravan.manifest.phases import AgentActivity, DropReason, JobState, RoundOutcome, RoundPhase, SiteState


class Language(StrEnum):
    """A language, by its tag in HTML and HTTP."""

    ENGLISH = "en"
    JAPANESE = "ja"


class Word(StrEnum):
    """Whatever the page says beside names and the sentences of the coordinator."""

    TITLE = "title"
    SKIP = "skip"
    JOBS = "jobs"
    JOB = "job"
    SITES = "sites"
    SITE = "site"
    EVENTS = "events"
    DEEDS = "deeds"
    WHO = "who"
    WHAT = "what"
    NO_DEEDS = "no_deeds"
    HQ = "hq"
    TIME = "time"
    EVENT = "event"
    STATE = "state"
    ROUNDS = "rounds"
    ROUND_OF = "round_of"
    RUNNING = "running"
    ACCURACY = "accuracy"
    ACCURACY_BEFORE = "accuracy_before"
    LOSS = "loss"
    LAST_SEEN = "last_seen"
    DOING = "doing"
    HEADS = "heads"
    MEMORY = "memory"
    ABSENT = "absent"
    NEVER = "never"
    AGO = "ago"
    TIME_LEFT = "time_left"
    OVERDUE = "overdue"
    NO_DEADLINE = "no_deadline"
    SELECTED = "selected"
    NOT_LED = "not_led"
    NO_JOBS = "no_jobs"
    NO_SITES = "no_sites"
    NO_EVENTS = "no_events"
    UNKNOWN = "unknown"
    COVERAGE = "coverage"
    COVERAGE_OF = "coverage_of"
    ALL_COVERED = "all_covered"
    THIN = "thin"
    CELL = "cell"
    WITHHELD = "withheld"
    NOBODY = "nobody"
    LEGEND = "legend"
    ROUND_ENDED = "round_ended"
    LEFT_OUT = "left_out"
    REFRESHES = "refreshes"
    STOP_REFRESH = "stop_refresh"
    REFRESH = "refresh"
    CURVE = "curve"


_ENGLISH: Final = {
    Word.TITLE: "Ravan coordinator",
    Word.SKIP: "Skip to the sites",
    Word.JOBS: "Jobs",
    Word.JOB: "Job",
    Word.SITES: "Sites",
    Word.SITE: "Site",
    Word.EVENTS: "Recent rounds",
    Word.DEEDS: "Recent events",
    Word.WHO: "By",
    Word.WHAT: "What",
    Word.NO_DEEDS: "Nothing has happened yet.",
    Word.HQ: "coordinator",
    Word.TIME: "Time",
    Word.EVENT: "What happened",
    Word.STATE: "State",
    Word.ROUNDS: "Rounds",
    Word.ROUND_OF: "Round {number} of {planned}: {phase}",
    Word.RUNNING: "{where}, {left}. {who}.",
    Word.ACCURACY: "Accuracy",
    Word.ACCURACY_BEFORE: "before training",
    Word.LOSS: "Loss",
    Word.LAST_SEEN: "Last seen",
    Word.DOING: "Doing",
    Word.HEADS: "Heads",
    Word.MEMORY: "Peak memory",
    Word.ABSENT: "Why it has no part",
    Word.NEVER: "never",
    Word.AGO: "{time} ago",
    Word.TIME_LEFT: "{time} left",
    Word.OVERDUE: "deadline passed {time} ago",
    Word.NO_DEADLINE: "no deadline",
    Word.SELECTED: "{selected} sites selected, {dropped} left since",
    Word.NOT_LED: "nobody leads it",
    Word.NO_JOBS: "No job yet. Begin with: ravan-coordinator job sample > job.toml",
    Word.NO_SITES: "No site yet. Invite one: ravan-coordinator token create --site NAME",
    Word.NO_EVENTS: "No round has ended yet.",
    Word.UNKNOWN: "The coordinator did not answer in time; this page asks again.",
    Word.COVERAGE: "Who trained what",
    Word.COVERAGE_OF: "Survivors of each head in round {number}, of {survivors} in all",
    Word.ALL_COVERED: "Every head was trained by at least half of them.",
    Word.THIN: "{count} of {total} heads are thin: {names}",
    Word.CELL: "{matrix}, head {head}: {count} of {survivors}",
    Word.WITHHELD: "withheld, too few",
    Word.NOBODY: "nobody",
    Word.LEGEND: "Full colour: many. Faint: few. Outlined: withheld or nobody.",
    Word.ROUND_ENDED: "round {number} {outcome}, {completed} of {selected} sites",
    Word.LEFT_OUT: "left: {names}",
    Word.REFRESHES: "Refreshes every {seconds} seconds.",
    Word.STOP_REFRESH: "Stop refreshing",
    Word.REFRESH: "Refresh by itself",
    Word.CURVE: "{name} by round: from {first} to {last}, between {low} and {high}",
}

_JAPANESE: Final = {
    Word.TITLE: "Ravan コーディネーター",
    Word.SKIP: "拠点一覧へ移動",
    Word.JOBS: "ジョブ",
    Word.JOB: "ジョブ",
    Word.SITES: "拠点",
    Word.SITE: "拠点",
    Word.EVENTS: "最近のラウンド",
    Word.DEEDS: "最近の出来事",
    Word.WHO: "実行者",
    Word.WHAT: "対象",
    Word.NO_DEEDS: "まだ出来事はありません。",
    Word.HQ: "コーディネーター",
    Word.TIME: "時刻",
    Word.EVENT: "内容",
    Word.STATE: "状態",
    Word.ROUNDS: "ラウンド",
    Word.ROUND_OF: "ラウンド {number}/{planned}：{phase}",
    Word.RUNNING: "{where}（{left}）。{who}。",
    Word.ACCURACY: "精度",
    Word.ACCURACY_BEFORE: "学習前",
    Word.LOSS: "損失",
    Word.LAST_SEEN: "最終確認",
    Word.DOING: "動作",
    Word.HEADS: "ヘッド数",
    Word.MEMORY: "最大メモリ",
    Word.ABSENT: "不参加の理由",
    Word.NEVER: "なし",
    Word.AGO: "{time}前",
    Word.TIME_LEFT: "残り{time}",
    Word.OVERDUE: "期限を{time}超過",
    Word.NO_DEADLINE: "期限なし",
    Word.SELECTED: "選択 {selected} 拠点、離脱 {dropped}",
    Word.NOT_LED: "実行中のコーディネーターなし",
    Word.NO_JOBS: "ジョブはまだありません。開始: ravan-coordinator job sample > job.toml",
    Word.NO_SITES: "拠点はまだありません。招待: ravan-coordinator token create --site NAME",
    Word.NO_EVENTS: "終了したラウンドはまだありません。",
    Word.UNKNOWN: "コーディネーターが時間内に応答しませんでした。再度取得します。",
    Word.COVERAGE: "ヘッドの学習状況",
    Word.COVERAGE_OF: "ラウンド {number} の各ヘッドの参加拠点数（全 {survivors} 拠点）",
    Word.ALL_COVERED: "すべてのヘッドが半数以上の拠点で学習されました。",
    Word.THIN: "{total} ヘッド中 {count} が不足: {names}",
    Word.CELL: "{matrix}、ヘッド {head}：{survivors} 中 {count}",
    Word.WITHHELD: "少数のため非公開",
    Word.NOBODY: "参加なし",
    Word.LEGEND: "はっきりした色：多い。かすかな色：少ない。枠のみ：非公開または参加なし。",
    Word.ROUND_ENDED: "ラウンド {number} {outcome}、{selected} 拠点中 {completed}",
    Word.LEFT_OUT: "離脱: {names}",
    Word.REFRESHES: "{seconds} 秒ごとに更新します。",
    Word.STOP_REFRESH: "自動更新を停止",
    Word.REFRESH: "自動更新を再開",
    Word.CURVE: "ラウンドごとの{name}：{first} から {last}、範囲 {low}～{high}",
}

WORDS: Final[Mapping[Language, Mapping[Word, str]]] = MappingProxyType(
    {Language.ENGLISH: _ENGLISH, Language.JAPANESE: _JAPANESE}
)

Named = SiteState | JobState | RoundPhase | RoundOutcome | DropReason | AgentActivity | Absence | AuditKind
"""Whatever comes from a closed list; in English it is called by its value."""

JAPANESE_NAMES: Final[Mapping[Named, str]] = MappingProxyType(
    {
        SiteState.INVITED: "招待済み",
        SiteState.OFFLINE: "オフライン",
        SiteState.ONLINE: "オンライン",
        SiteState.REVOKED: "失効",
        JobState.PREPARING: "準備中",
        JobState.RUNNING: "実行中",
        JobState.PAUSED: "一時停止",
        JobState.COMPLETED: "完了",
        JobState.STOPPED: "停止",
        JobState.FAILED: "失敗",
        RoundPhase.TRAINING: "学習",
        RoundPhase.SHARING: "鍵共有",
        RoundPhase.UPLOADING: "送信",
        RoundPhase.CONFIRMING: "確認",
        RoundPhase.REVEALING: "開示",
        RoundPhase.UNMASKING: "マスク除去",
        RoundPhase.EVALUATING: "評価",
        RoundPhase.ENDED: "終了",
        RoundOutcome.COMMITTED: "確定",
        RoundOutcome.TOO_FEW_SITES: "拠点不足",
        RoundOutcome.CANARY_MISMATCH: "検査値不一致",
        RoundOutcome.INTERRUPTED: "中断",
        RoundOutcome.STOPPED: "停止",
        RoundOutcome.INTERNAL: "内部エラー",
        RoundOutcome.REFUSED: "採用見送り",
        DropReason.DISCONNECTED: "切断",
        DropReason.DEADLINE: "時間切れ",
        DropReason.RESTARTED: "再起動",
        DropReason.DATA: "データ",
        DropReason.MEMORY: "メモリ",
        DropReason.DISK: "ディスク",
        DropReason.REFUSED: "拒否",
        DropReason.PROTOCOL: "プロトコル",
        DropReason.LEFT: "退出",
        DropReason.GROUP: "グループ不成立",
        DropReason.INTERNAL: "内部エラー",
        AgentActivity.IDLE: "待機",
        AgentActivity.DOWNLOADING: "受信",
        AgentActivity.MEASURING: "計測",
        AgentActivity.TRAINING: "学習",
        AgentActivity.MASKING: "マスク処理",
        AgentActivity.UPLOADING: "送信",
        AgentActivity.PAUSED: "一時停止",
        Absence.NOT_ENROLLED: "未登録",
        Absence.REVOKED: "失効",
        Absence.OFFLINE: "オフライン",
        Absence.HELD_BACK: "版が古いため保留",
        Absence.RESTING: "休止中",
        Absence.DROPPED: "離脱",
        Absence.NOT_SELECTED: "今回は対象外",
        AuditKind.STARTED: "起動",
        AuditKind.CONFIGURED: "設定変更",
        AuditKind.RESTORED: "バックアップから復元",
        AuditKind.TOKEN_CREATED: "招待作成",
        AuditKind.ENROLLED: "拠点登録",
        AuditKind.CERTIFICATE_RENEWED: "証明書更新",
        AuditKind.REVOKED: "拠点失効",
        AuditKind.ENDORSED: "所有者承認",
        AuditKind.OPERATOR_CREATED: "担当者追加",
        AuditKind.OPERATOR_REVOKED: "担当者失効",
        AuditKind.MODEL_ADDED: "モデル追加",
        AuditKind.JOB_SUBMITTED: "ジョブ投入",
        AuditKind.JOB_PAUSED: "ジョブ一時停止",
        AuditKind.JOB_RESUMED: "ジョブ再開",
        AuditKind.JOB_ENDED: "ジョブ終了",
        AuditKind.ROUND_OPENED: "ラウンド開始",
        AuditKind.ROSTER_SIGNED: "名簿署名",
        AuditKind.SURVIVORS_CHOSEN: "残存拠点決定",
        AuditKind.ROUND_COMMITTED: "ラウンド確定",
        AuditKind.ROUND_ENDED: "ラウンド終了",
        AuditKind.EXPORTED: "書き出し",
        AuditKind.CALL_DENIED: "呼び出し拒否",
    }
)


class Phrases:
    """Say words and names in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._words = WORDS[language]

    def say(self, word: Word, **parts: object) -> str:
        """Return a word with its blanks filled."""
        return self._words[word].format(**parts)

    def name(self, named: Named) -> str:
        """Return what something of a closed list is called."""
        if self.language is Language.JAPANESE:
            return JAPANESE_NAMES[named]
        return named.value.replace("_", " ")

    def seconds(self, seconds: float) -> str:
        """Return a length of time in its largest fitting unit."""
        japanese = self.language is Language.JAPANESE
        for unit, english, kanji in ((86_400, "d", "日"), (3600, "h", "時間"), (60, "min", "分")):
            if seconds >= unit * 2:
                return f"{seconds / unit:.0f}{kanji}" if japanese else f"{seconds / unit:.0f} {english}"
        return f"{max(0.0, seconds):.0f}秒" if japanese else f"{max(0.0, seconds):.0f} s"


def choose_language(asked: str, accepted: str) -> Language:
    """Return the language that a link asks for, or the first that the browser accepts and the page speaks.

    `accepted` is an Accept-Language header (RFC 9110, 12.5.4); what cannot be read counts as not said.
    """
    known = {language.value: language for language in Language}
    if asked in known:
        return known[asked]
    wishes = [_wish(part) for part in accepted.split(",")]
    for tag, weight in sorted(wishes, key=lambda wish: -wish[1]):
        if weight > 0 and tag in known:
            return known[tag]
    return Language.ENGLISH


def _wish(part: str) -> tuple[str, float]:
    tag, _, rest = part.partition(";")
    _, _, weight = rest.partition("q=")
    try:
        return tag.strip().lower().partition("-")[0], float(weight) if weight else 1.0
    except ValueError:
        return "", 0.0
