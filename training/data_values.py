"""Values that fill template facts: the word lists of values.txt, and generated dates, prices, names and the like."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

NUMBER_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ORDINALS = ["ground", "first", "second", "third", "fourth", "fifth", "top"]
PERSONS = frozenset({"person", "applicant", "artist", "patient", "player", "ruler"})


@cache
def word_lists() -> dict[str, list[str]]:
    """The lists of values.txt and values_more.txt by name."""
    lists: dict[str, list[str]] = {}
    texts = [Path(__file__).with_name(name).read_text("utf-8") for name in ("values_more.txt", "values.txt")]
    for line in "\n".join(texts).splitlines():
        name, colon, rest = line.partition(": ")
        if colon and not line.startswith("#"):
            lists[name] = [item.strip() for item in rest.split(" | " if " | " in rest else ", ")]
    return lists


def invented(rng: random.Random) -> str:
    """A made-up proper name, so that no answer can be known by heart."""
    lists = word_lists()
    middle = "".join(rng.choice(lists["middle"]) for _ in range(rng.randint(0, 2)))
    return rng.choice(lists["start"]) + middle + rng.choice(lists["end"])


def person(rng: random.Random) -> str:
    """A first and last name."""
    lists = word_lists()
    first = rng.choice(lists["firstname"]) if rng.random() < 0.75 else invented(rng)
    last = rng.choice(lists["lastname"]) if rng.random() < 0.6 else invented(rng)
    title = rng.choice(("Dr. ", "Mr. ", "Professor ")) if rng.random() < 0.08 else ""
    return f"{title}{first} {last}"


def company(rng: random.Random) -> str:
    """A company name."""
    stem = invented(rng) if rng.random() < 0.6 else rng.choice(word_lists()["lastname"])
    return f"{stem} {rng.choice(word_lists()['firm'])}" if rng.random() < 0.7 else stem


def year(rng: random.Random) -> str:
    """A year."""
    return str(rng.randint(1650, 1990) if rng.random() < 0.4 else rng.randint(1990, 2027))


def day_month(rng: random.Random) -> str:
    """A day without year."""
    day, month = rng.randint(1, 28), rng.choice(word_lists()["month"])
    return rng.choice((f"{day} {month}", f"{month} {day}", f"{day}th of {month}" if 3 < day < 21 else f"{day} {month}"))


def date(rng: random.Random) -> str:
    """A date, mostly with year."""
    day, month = rng.randint(1, 28), rng.choice(word_lists()["month"])
    if rng.random() < 0.3:
        return day_month(rng)
    return rng.choice((f"{day} {month} {year(rng)}", f"{month} {day}, {year(rng)}"))


def clock(rng: random.Random) -> str:
    """A time of day."""
    hour, minutes = rng.randint(1, 12), rng.choice(("00", "15", "30", "45"))
    return rng.choice(
        (
            f"{hour} {rng.choice(('am', 'pm'))}",
            f"{hour}:{minutes} {rng.choice(('am', 'pm'))}",
            f"{rng.randint(6, 22)}:{minutes}",
            f"{hour} o'clock",
        )
    )


def clock_range(rng: random.Random) -> str:
    """From one time to another."""
    return f"{clock(rng)} to {clock(rng)}" if rng.random() < 0.7 else f"{rng.randint(6, 11)} to {rng.randint(12, 22)}"


def count(rng: random.Random, low: int, high: int) -> str:
    """A number, small ones sometimes in words."""
    number = rng.randint(low, high)
    return NUMBER_WORDS[number - 1] if number <= 12 and rng.random() < 0.5 else str(number)


def amount(unit: str, low: int, high: int, *, decimals: bool = False) -> Callable[[random.Random], str]:
    """A generator of "12 kg", "3.5 kg", "two kg"."""

    def draw(rng: random.Random) -> str:
        if decimals and rng.random() < 0.4:
            return f"{rng.randint(low, high)}.{rng.randint(1, 9)} {unit}"
        return f"{count(rng, low, high)} {unit}"

    return draw


def money(low: int, high: int) -> Callable[[random.Random], str]:
    """A generator of prices in several currencies."""

    def draw(rng: random.Random) -> str:
        number = rng.randint(low, high)
        text = f"{number:,}" + (f".{rng.randint(10, 99)}" if rng.random() < 0.2 and number < 1000 else "")
        return rng.choice((f"${text}", f"€{text}", f"{text} euros", f"{text} dollars", f"£{text}", f"{text} CHF"))

    return draw


def email(rng: random.Random) -> str:
    """An e-mail address."""
    who = rng.choice(("info", "office", "mail", "jobs", rng.choice(word_lists()["firstname"]).lower()))
    return f"{who}@{invented(rng).lower()}.{rng.choice(('com', 'org', 'eu', 'net', 'ch'))}"


def phone(rng: random.Random) -> str:
    """A telephone number."""
    digits = "".join(rng.choice("0123456789") for _ in range(9))
    return rng.choice(
        (
            digits[:4],
            f"0{digits[:3]} {digits[3:6]} {digits[6:]}",
            f"+{digits[:2]} {digits[2:5]} {digits[5:]}",
            f"555-{digits[:4]}",
        )
    )


def address(rng: random.Random) -> str:
    """A street address."""
    return f"{rng.randint(1, 180)} {invented(rng)} {rng.choice(('Street', 'Road', 'Lane', 'Avenue', 'Square'))}"


def age(rng: random.Random) -> str:
    """An age in years."""
    return f"{rng.randint(2, 95)}" + (" years old" if rng.random() < 0.4 else "")


GENERATORS: dict[str, Callable[[random.Random], str]] = {
    "person": person,
    "company": company,
    "year": year,
    "date": date,
    "daymonth": day_month,
    "time": clock,
    "fullname": lambda rng: (
        person(rng) if rng.random() < 0.5 else rng.choice((*word_lists()["firstname"], invented(rng)))
    ),
    "time_range": clock_range,
    "hours_range": clock_range,
    "dates": lambda rng: f"{day_month(rng)} to {day_month(rng)}",
    "years": amount("years", 1, 15),
    "months": amount("months", 1, 24),
    "weeks": amount("weeks", 1, 20),
    "days": amount("days", 1, 60),
    "hours": amount("hours", 1, 72),
    "minutes": amount("minutes", 2, 120),
    "weight": amount("kg", 1, 90, decimals=True),
    "watts": amount("watts", 5, 2400),
    "litres": amount("litres", 1, 80, decimals=True),
    "centimetres": amount("cm", 4, 200),
    "metres": lambda rng: f"1.{rng.randint(50, 99)} m",
    "altitude": amount("metres", 20, 2400),
    "buildingheight": amount("metres", 8, 300),
    "km": amount("km", 2, 90),
    "decibels": amount("decibels", 20, 95),
    "speed": amount("km/h", 5, 250),
    "grams": amount("grams", 5, 500),
    "temperature": lambda rng: f"{rng.choice(('-', ''))}{rng.randint(1, 38)} °C",
    "oven": lambda rng: f"{rng.randint(12, 25)}0 {rng.choice(('°C', 'degrees'))}",
    "kcal": amount("calories", 90, 900),
    "pages": amount("pages", 40, 900),
    "people": amount("people", 2, 12),
    "inches": amount("inches", 4, 75),
    "gigabytes": amount("GB", 8, 512),
    "lifespan": amount("years", 2, 90),
    "percent": lambda rng: f"{rng.randint(2, 95)}{rng.choice(('%', ' percent'))}",
    "money": money(100, 9000),
    "smallmoney": money(2, 60),
    "millions": lambda rng: f"{rng.choice('$€£')}{rng.randint(2, 900)} million",
    "number": lambda rng: count(rng, 3, 900),
    "few": lambda rng: count(rng, 2, 9),
    "bignumber": lambda rng: f"{rng.randint(2, 950)},{rng.randint(0, 999):03}",
    "email": email,
    "phone": phone,
    "address": address,
    "age": age,
    "room": lambda rng: f"room {rng.randint(1, 480)}",
    "floor": lambda rng: f"{rng.choice(ORDINALS)} floor",
    "code": lambda rng: f"{invented(rng).lower()}{rng.randint(10, 999)}",
    "busline": lambda rng: str(rng.randint(1, 99)),
    "version": lambda rng: f"{rng.randint(0, 12)}.{rng.randint(0, 20)}",
    "port": lambda rng: str(rng.randint(80, 9999)),
    "score": lambda rng: f"{rng.randint(0, 6)}-{rng.randint(0, 6)}",
    "event": lambda rng: f"the {invented(rng)} {rng.choice(word_lists()['eventnoun'])}",
}


def value(rng: random.Random, kind: str) -> str:
    """A value of that kind; half of the cities and countries are invented ones."""
    if kind in GENERATORS:
        return GENERATORS[kind](rng)
    if kind in ("city", "firstname", "river", "region") and rng.random() < 0.4:
        return invented(rng)
    return rng.choice(word_lists()[kind])


def subject(rng: random.Random, group: str) -> tuple[str, str, str]:
    """Full name, short form and pronoun of something of that group; the rules and oneself have none."""
    name, lists = invented(rng), word_lists()
    noun = rng.choice(lists.get(f"{group}noun", lists["noun"]))
    if group in PERSONS:
        full = person(rng)
        return full, full.split()[-1], rng.choice(("he", "she"))
    if group == "company":
        return company(rng), "the company", "it"
    if group == "city":
        return (name if rng.random() < 0.7 else rng.choice(lists["city"])), "the city", "it"
    if group == "dish":
        full = f"the {rng.choice(lists['dishadjective'])} {noun}"
        return full, f"the {noun}", "it"
    if group == "animal":
        return f"the {noun}", "the animal", "it"
    if group == "course":
        return f"the {noun}", "the course", "it"
    if group == "contract":
        return f"the {noun} with {company(rng)}", f"the {noun}", "it"
    if group == "project":
        return rng.choice((f"project {name}", f"the {name} project")), "the project", "it"
    if group == "product":
        return (
            f"the {name} {rng.choice((str(rng.randint(1, 900)), 'Pro', 'Mini', 'X'))} {noun}",
            f"the {noun}",
            "it",
        )
    return rng.choice((f"the {noun} {name}", f"the {name} {noun}")), f"the {noun}", "it"
