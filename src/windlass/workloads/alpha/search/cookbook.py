"""What has been believed of prices and volumes, as expressions; and which of it an idea speaks of.

A snippet is where a search starts, not a claim: most of them were published, and are known to everybody who trades.
Short windows are rare on purpose, for what changes from day to day costs more than it earns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Tag = Literal["momentum", "reversal", "liquidity", "volatility", "volume-price", "range", "gap"]
TAGS: tuple[Tag, ...] = get_args(Tag)

FLOOR = 0.2  #: of the weight, shared by all tags: an idea leans the search, it does not close the rest of it

Weights = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Snippet:
    name: str
    text: str
    tags: tuple[Tag, ...]
    belief: str  #: why somebody believed in it


_GAP = "(open / delay(close, 1) - 1)"
_DAY = "(close / open - 1)"
_ILLIQUID = "abs(returns) / (close * volume)"

COOKBOOK: tuple[Snippet, ...] = (
    Snippet("month", "rank(close / delay(close, 20) - 1)", ("momentum",),
            "News is taken in slowly, so that what rose for a month rises on."),
    Snippet("half_year", "rank(delay(close, 20) / delay(close, 120) - 1)", ("momentum",),
            "Winners of half a year win on; the last month is left out, as it reverses (Jegadeesh, Titman 1993)."),
    Snippet("quarter", "rank(decay_linear(close / delay(close, 60) - 1, 10))", ("momentum",),
            "A quarter's return holds about one report's news; the weighted mean keeps turnover low."),
    Snippet("return_per_risk", "rank(ts_mean(returns, 120) / ts_std(returns, 120))", ("momentum", "volatility"),
            "A steady climb is a trend, a wild one is chance."),
    Snippet("steady_climb", "rank(ts_mean(sign(returns), 60))", ("momentum",),
            "Small pieces of news escape attention and are priced late (Da, Gurun, Warachka 2014)."),
    Snippet("near_high", "rank(close / ts_max(high, 120))", ("momentum", "range"),
            "People are slow to pay above an old high, so good news near it is priced late (George, Hwang 2004)."),
    Snippet("crossing_means", "rank(ts_mean(close, 20) / ts_mean(close, 100) - 1)", ("momentum",),
            "A short mean above a long one is the oldest rule of a trend (Brock, Lakonishok, LeBaron 1992)."),
    Snippet("above_own_mean", "rank(close / ewm(close, 20) - 1)", ("momentum",),
            "A price above its own weighted past has buyers who are not done."),
    Snippet("leads_its_sector", "group_rank(delay(close, 5) / delay(close, 65) - 1, sector)", ("momentum",),
            "Compared with its like, a name's return is about the name and not about its trade."),
    Snippet("beyond_the_market", "rank(ts_mean(demean(returns), 100) / ts_std(demean(returns), 100))",
            ("momentum", "volatility"),
            "What a name earned beyond the market lasts longer than its whole return (Blitz, Huij, Martens 2011)."),
    Snippet("faster_than_before", "rank(close / delay(close, 30) - delay(close, 30) / delay(close, 60))",
            ("momentum",), "A rise that gains speed draws in those who follow trends."),
    Snippet("recent_high", "rank(ts_argmax(high, 100))", ("momentum", "range"),
            "A high of days ago is a trend that lives, one of months ago is one that died (Aroon, Chande 1995)."),
    Snippet("straight_way", "rank((close - delay(close, 40)) / ts_sum(abs(delta(close, 1)), 40))",
            ("momentum", "range"),
            "The more of its way a price went in one direction, the clearer is the news behind it (Kaufman 1995)."),
    Snippet("night_trend", f"rank(ts_mean({_GAP}, 60))", ("momentum", "gap"),
            "Those who trade at the open are the same ones for months (Lou, Polk, Skouras 2019)."),
    Snippet("day_trend", f"rank(ts_mean({_DAY}, 60))", ("momentum", "gap"),
            "Institutions buy during the day, in many pieces, and for weeks (Lou, Polk, Skouras 2019)."),
    Snippet("calm_trend", "rank((ts_mean(close, 20) / ts_mean(close, 100) - 1) / ts_std(returns, 100))",
            ("momentum", "volatility"), "A trend in a quiet name is information, in a wild one it is noise."),
    Snippet("quiet_winner", "rank((close / delay(close, 60) - 1) * ts_mean(volume, 120) / ts_mean(volume, 20))",
            ("momentum", "volume-price"),
            "A rise that few have traded is not yet known to all (Lee, Swaminathan 2000)."),
    Snippet("dip_in_a_rise", "rank(rank(close / delay(close, 100)) - rank(close / delay(close, 10)))",
            ("momentum", "reversal"), "A pause in a long rise is a chance to join it."),
    Snippet("week_back", "rank(-(close / delay(close, 5) - 1))", ("reversal",),
            "Prices overshoot in a week when somebody must trade, and come back (Lehmann 1990)."),
    Snippet("month_back", "rank(-decay_linear(returns, 20))", ("reversal",),
            "Last month's losers beat last month's winners (Jegadeesh 1990)."),
    Snippet("old_winners_tire", "rank(-(delay(close, 60) / delay(close, 180) - 1))", ("reversal",),
            "Long rises are overdone and are taken back later (De Bondt, Thaler 1985)."),
    Snippet("back_to_its_sector", "rank(-group_neutralize(close / delay(close, 10) - 1, sector))", ("reversal",),
            "A move that its like did not make is pressure, not news (Hameed, Mian 2015)."),
    Snippet("off_its_mean", "rank(-ts_zscore(close, 40))", ("reversal",),
            "Far from its own mean, measured by its own spread, a price is pulled back (Bollinger's bands)."),
    Snippet("shock_per_risk", "rank(-ts_sum(returns, 10) / ts_std(returns, 60))", ("reversal", "volatility"),
            "The same fall is a larger surprise in a quiet name, and overdone there."),
    Snippet("forced_trade", "rank(-ts_mean(returns, 10) * ts_mean(volume, 10) / ts_mean(volume, 60))",
            ("reversal", "volume-price", "liquidity"),
            "A move on much volume is somebody's need for cash, and comes back (Campbell, Grossman, Wang 1993)."),
    Snippet("below_average_price", "rank(decay_linear(vwap / close - 1, 10))", ("reversal", "volume-price"),
            "A close below what most paid on the day is late pressure, which passes."),
    Snippet("place_in_own_past", "rank(-ts_rank(close, 60))", ("reversal",),
            "What stands at the top of its own quarter has little left to go."),
    Snippet("lottery", "rank(-ts_max(returns, 20))", ("reversal", "volatility"),
            "Names with one great day are bought as lottery tickets and cost too much (Bali, Cakici, Whitelaw 2011)."),
    Snippet("bounce", "rank(-ts_cov(returns, delay(returns, 1), 60))", ("liquidity", "reversal"),
            "Returns that swing back each day pay a wide spread, and whoever bears it is paid for it (Roll 1984)."),
    Snippet("price_of_a_trade", f"rank(ts_mean({_ILLIQUID}, 60))", ("liquidity",),
            "A name that moves much for little money is hard to sell, and pays for that (Amihud 2002)."),
    Snippet("harder_to_trade", f"rank(ts_mean({_ILLIQUID}, 10) / ts_mean({_ILLIQUID}, 60))", ("liquidity",),
            "A name that has just become hard to trade is sold below its worth."),
    Snippet("little_traded", "rank(-adv(60))", ("liquidity",),
            "What few trade has to offer more (Brennan, Chordia, Subrahmanyam 1998)."),
    Snippet("uneven_trading", "rank(-ts_std(volume, 60) / ts_mean(volume, 60))", ("liquidity", "volume-price"),
            "Names whose trading comes and goes earn less (Chordia, Subrahmanyam, Anshuman 2001)."),
    Snippet("wide_days", "rank(ts_mean((high - low) / (high + low), 60))", ("liquidity", "range"),
            "The day's range holds the spread, and a wide spread is paid for (Corwin, Schultz 2012)."),
    Snippet("money_comes", "rank(delta(adv(20), 20) / adv(60))", ("liquidity", "volume-price"),
            "More money in a name makes it easier to hold, and dearer."),
    Snippet("turned_over", "rank(-ts_mean(close * volume, 60) / cap)", ("liquidity",),
            "What changes hands often needs no premium for being hard to sell (Datar, Naik, Radcliffe 1998)."),
    Snippet("small", "rank(-cap)", ("liquidity",), "Small firms earned more than large ones (Banz 1981)."),
    Snippet("calm", "rank(-ts_std(returns, 60))", ("volatility",),
            "Who may not borrow buys risk instead, and pays too much for it (Ang, Hodrick, Xing, Zhang 2006)."),
    Snippet("calm_beyond_the_market", "rank(-ts_std(demean(returns), 60))", ("volatility",),
            "Risk of the name alone is not paid for (Ang, Hodrick, Xing, Zhang 2006)."),
    Snippet("calming", "rank(ts_std(returns, 100) / ts_std(returns, 20))", ("volatility",),
            "When fear leaves a name, those who fled come back."),
    Snippet("narrow_days", "rank(-ts_mean(log(high / low), 60))", ("volatility", "range"),
            "The day's range measures risk better than closes do (Parkinson 1980); low risk is underpriced."),
    Snippet("falls", "rank(-ts_mean(min(returns, 0), 60))", ("volatility",),
            "Risk of falls is what people want to be paid for (Ang, Chen, Xing 2006)."),
    Snippet("unsteady_risk", "rank(-ts_std(ts_std(returns, 10), 60))", ("volatility",),
            "Where risk itself is unclear, people pay for hope (Baltussen, van Bekkum, van der Grient 2018)."),
    Snippet("nights_against_days", f"rank(ts_std({_GAP}, 60) / ts_std({_DAY}, 60))", ("volatility", "gap"),
            "Risk that comes at night cannot be traded away, and is paid for."),
    Snippet("against_beta", "rank(-ts_corr(returns, returns - demean(returns), 100))", ("volatility",),
            "Names that go with the market are bought by those who may not borrow (Frazzini, Pedersen 2014)."),
    Snippet("lopsided", "rank(-(ts_max(returns, 60) + ts_min(returns, 60)))", ("volatility", "reversal"),
            "A name with the larger days on its upper side is paid for in advance (Harvey, Siddique 2000)."),
    Snippet("price_with_volume", "rank(-ts_corr(rank(close), rank(volume), 20))", ("volume-price",),
            "A rise on rising volume is a crowd, and crowds leave (compare the 101 formulaic alphas, number 3)."),
    Snippet("crowded_returns", "rank(-decay_linear(ts_corr(returns, volume / ts_mean(volume, 20), 20), 10))",
            ("volume-price",), "Where volume comes with gains, the last buyer is near."),
    Snippet("signed_volume", "rank(ts_mean(sign(returns) * volume, 20) / ts_mean(volume, 60))", ("volume-price",),
            "Volume on rising days is buying that has not ended (Granville 1963)."),
    Snippet("money_flow", "rank(ts_sum((close - low) / (high - low) * volume, 20) / ts_sum(volume, 20))",
            ("volume-price", "range"), "Closing near the high on volume is quiet buying (Chaikin's money flow)."),
    Snippet("volume_moves_it", "rank(ts_corr(abs(returns), volume, 60))", ("volume-price", "liquidity"),
            "Where volume and size of the move go together, opinions differ (Karpoff 1987)."),
    Snippet("busy", "rank(ts_mean(volume, 20) / ts_mean(volume, 120))", ("volume-price", "liquidity"),
            "Names that are suddenly looked at find new buyers (Gervais, Kaniel, Mingelgrin 2001)."),
    Snippet("busy_days_drift", "rank(decay_linear(sign(returns) * volume / ts_mean(volume, 20), 30))",
            ("volume-price", "momentum"), "The direction of busy days is the direction of those who know more."),
    Snippet("volume_before_price",
            "rank(-ts_corr(rank(volume / delay(volume, 5)), rank(close / open - 1), 40))", ("volume-price",),
            "Days that rise on growing volume are given back (compare the 101 formulaic alphas, number 2)."),
    Snippet("paid_above_average", "rank(ts_mean(close / vwap - 1, 40))", ("volume-price", "momentum"),
            "Who needs many days to buy pushes the close above the day's average price."),
    Snippet("place_in_day", "rank(-ts_mean((close - low) / (high - low), 10))", ("range", "reversal"),
            "Closing at the high for days is pressure that ends."),
    Snippet("place_in_channel",
            "rank((close - ts_min(low, 60)) / (ts_max(high, 60) - ts_min(low, 60)))", ("range", "momentum"),
            "At the top of its channel a price has no sellers left from above (stochastics, Lane)."),
    Snippet("spring", "rank(ts_mean(high - low, 60) / ts_mean(high - low, 10))", ("range", "volatility"),
            "Narrow days come before wide ones, and tend to break upwards (Crabel 1990)."),
    Snippet("upper_shadows", "rank(-ts_mean((high - max(open, close)) / (high - low), 40))", ("range",),
            "A high that was sold into shows a seller who waits there."),
    Snippet("lower_shadows", "rank(ts_mean((min(open, close) - low) / (high - low), 40))", ("range",),
            "A low that was bought shows a buyer who waits there."),
    Snippet("firm_bodies", "rank(ts_mean((close - open) / (high - low), 40))", ("range", "momentum"),
            "Days that end far from where they began, and on one side, are one large buyer's."),
    Snippet("high_after_low", "rank(ts_argmax(high, 60) - ts_argmin(low, 60))", ("range", "momentum"),
            "First the low and then the high is a turn that has happened."),
    Snippet("gap_fades", f"rank(-ts_mean({_GAP}, 10))", ("gap", "reversal"),
            "The open is set by those in a hurry, who pay too much (Berkman, Koch, Tuttle, Zhang 2012)."),
    Snippet("nights_less_days", f"rank(ts_mean({_GAP} - {_DAY}, 60))", ("gap", "reversal"),
            "Two groups of owners pull, one by night and one by day (Lou, Polk, Skouras 2019)."),
    Snippet("gap_followed", f"rank(ts_corr({_GAP}, {_DAY}, 60))", ("gap",),
            "Where the day goes on as the night began, news is priced too slowly."),
    Snippet("gaps_in_the_range", "rank(-ts_mean(abs(open - delay(close, 1)) / (high - low), 40))",
            ("gap", "range", "volatility"), "Names that jump over night are held only by those who are paid for it."),
    Snippet("news_drift", f"rank(decay_linear(signed_power({_GAP}, 3), 60))", ("gap", "momentum"),
            "Reports come at night in large gaps (hence the cube), and prices drift on (Bernard, Thomas 1989)."),
    Snippet("busy_gap", f"rank(-decay_linear({_GAP} * volume / ts_mean(volume, 20), 20))",
            ("gap", "volume-price"), "A gap that many traded on was looked at by many, and overpaid."),
)  # fmt: skip

_WORDS: Mapping[Tag, re.Pattern[str]] = {
    "momentum": re.compile(r"moment\w*|trend\w*|winner\w*|continu\w*|drift\w*|persist\w*|breakout\w*|strength|pead"),
    "reversal": re.compile(
        r"revers\w*|revert\w*|contrar\w*|overreact\w*|oversold|overbought|pullback\w*|bounc\w*|dips?|loser\w*|rebound\w*"
    ),
    "liquidity": re.compile(r"(il)?liquid\w*|amihud|turnover|adv|spreads?|small\w*|size|cap|microcap\w*|tradab\w*"),
    "volatility": re.compile(
        r"volatil\w*|vol|vola|risk\w*|varian\w*|beta|calm\w*|skew\w*|lotter\w*|defensive|tails?|uncertain\w*"
    ),
    "volume-price": re.compile(r"volumes?|flows?|accumul\w*|distribut\w*|obv|vwap|crowd\w*|attention|participat\w*"),
    "range": re.compile(r"rang\w*|candle\w*|shadow\w*|channel\w*|breakout\w*|atr|stochastic\w*|intraday|highs?|lows"),
    "gap": re.compile(r"gap\w*|overnight|night\w*|opening|earnings?|announce\w*|news|pead|jump\w*"),
}
_NOT = re.compile(r"no|not|without|except|excluding|avoid\w*")


def weights(idea: str) -> dict[str, float]:
    """How much each tag counts; they add up to 1.

    A tag is meant where the idea has one of its words; it is ruled out (0) where the word before is "no", "without" or
    the like. All tags that are meant count alike. An idea without a known word: all count alike; ``reading`` says so.
    """
    meant, refused = _meant(idea)
    free = [tag for tag in TAGS if tag not in refused] or list(TAGS)
    chosen = [tag for tag in free if tag in meant] or free
    shares: dict[str, float] = {tag: FLOOR / len(free) if tag in free else 0.0 for tag in TAGS}
    for tag in chosen:
        shares[tag] += (1 - FLOOR) / len(chosen)
    return shares


def reading(idea: str) -> str:
    """In a sentence, what ``weights`` took from the idea."""
    meant, refused = _meant(idea)
    without = f", without {', '.join(refused)}" if refused else ""
    if meant:
        return f"the idea was read as {', '.join(meant)}{without}"
    if refused:
        return f"the idea was read as everything{without}"
    known = f"Known are words about {', '.join(TAGS[:-1])} and {TAGS[-1]}."
    return f"{f'no word of {idea!r} is known' if idea.strip() else 'no idea was given'}: all kinds count alike. {known}"


def weight(tags: tuple[Tag, ...], shares: Weights) -> float:
    """Of what carries ``tags``: their mean, and 0 where one of them is ruled out."""
    counted = [shares[tag] for tag in tags]
    return sum(counted) / len(counted) if all(counted) else 0.0


def _meant(idea: str) -> tuple[list[Tag], list[Tag]]:
    """Tags that an idea asks for, and tags that it rules out; a tag that is in both is asked for."""
    words = re.findall(r"[a-z]+", idea.lower())
    found: tuple[set[Tag], set[Tag]] = (set(), set())
    for before, word in zip(["", *words], words, strict=False):
        for tag, pattern in _WORDS.items():
            if pattern.fullmatch(word):
                found[bool(_NOT.fullmatch(before))].add(tag)
    meant, refused = found
    return [tag for tag in TAGS if tag in meant], [tag for tag in TAGS if tag in refused - meant]
