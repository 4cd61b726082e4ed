"""The report of alpha research: of a campaign's run, and of a run that opened the holdout of one.

REPORT.md of such a run gets :func:`alpha_sections`, SUMMARY.md :func:`alpha_headlines`; :func:`alpha_page` is the same
with figures in one HTML file.
"""

from __future__ import annotations

import math

from windlass.records.run import RunRecord
from windlass.report import alpha_returns as returns
from windlass.report import alpha_setting as setting
from windlass.report import alpha_verdict as verdict
from windlass.report.alpha_campaign import CampaignReport as CampaignReport
from windlass.report.alpha_campaign import real
from windlass.report.alpha_words import counted, probability, two
from windlass.report.blocks import Section
from windlass.report.page import Card, page

FROM_RUN = "../"  #: from a run folder to its siblings


def alpha_sections(report: CampaignReport) -> list[Section]:
    """Sections with something to say, the verdict first."""
    told = [
        Section("Verdict", list(verdict.verdict(report))),
        Section("Holdout", list(setting.holdout(report))),
        Section("Top alphas", list(verdict.top(report))),
        Section("Returns", list(returns.returns(report))),
        Section("Costs", list(returns.costs(report))),
        Section("Decay", list(returns.decay(report))),
        Section("Luck", list(verdict.luck(report))),
        Section("All trials", list(verdict.trials(report))),
        Section("Robustness", list(returns.robustness(report))),
        Section("Optimizer", list(setting.optimizer(report))),
        Section("Data", list(setting.data(report))),
        Section("How this could be wrong", list(verdict.power(report))),
    ]
    return [section for section in told if section.blocks]


def alpha_headlines(report: CampaignReport) -> list[str]:
    """A few lines for a glance: the verdict, the trials, the best in-sample, the holdout."""
    lines = [report.words, verdict.trials_words(report), verdict.best_words(report) or ""]
    lines.append(verdict.holdout_words(report))
    if report.manifest.get("survivorship") == "likely":
        lines.append("Data: survivorship is likely, so returns look better than they were.")
    return [line for line in lines if line]


def alpha_page(run: RunRecord, report: CampaignReport) -> str:
    """One HTML file beside REPORT.md. Raises MissingExtra where plotly is not installed."""
    kicker = "Opened holdout of an alpha campaign" if report.is_opening else "Alpha research report"
    return page(run.id, kicker, report.words, _cards(report), alpha_sections(report), FROM_RUN)


def _cards(report: CampaignReport) -> list[Card]:
    own, earlier, counted_all = report.trial_counts
    note = f"{own:,} of this run, {earlier:,} of earlier ones, both signs"
    cards = [Card("trials counted", f"{counted_all:,}", note)]
    best = report.best
    if math.isfinite(net := real(best, "net_sharpe")) or math.isfinite(real(best, "gross_sharpe")):
        note = f"net of costs; gross {two(real(best, 'gross_sharpe'))}, {best.get('alpha_id', '')}"
        cards.append(Card("best in-sample Sharpe", two(net), note))
    max_t, placebo = report.gate.get("max_t") or {}, report.gate.get("placebo") or {}
    if math.isfinite(observed := real(max_t, "observed_max")):
        note = f"luck alone exceeds {two(real(max_t, 'critical'))} in 5 % of samples"
        if math.isfinite(p := real(placebo, "p")):
            note += f"; placebo p {probability(p)}"
        cards.append(Card("largest |t| of all trials", two(observed), note))
    holdout = report.gate.get("holdout") or {}
    opened = int(holdout.get("opened") or 0)
    span = f"{holdout.get('first', '')} to {holdout.get('last', '')}"
    times = counted(opened, "opening")
    if report.holdout:
        first = report.holdout[0]
        note = f"HAC t {two(real(first, 'holdout_t'))}; {span}; {times} on this data"
        cards.append(Card("holdout net Sharpe", two(real(first, "net_ir")), note))
    else:
        cards.append(Card("holdout", times if opened else "sealed", span))
    return cards
