"""The forms of ``benchmarks.forms``. What belongs in them stands in ``data/forms.jsonl``, made by hand.

The heuristics of the bundled reader were worked on between the sets: "first" was read before and after, "second" mostly
after, "third" when they were done.
"""

from datetime import date as Day
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, Field


class Line(BaseModel):
    description: str
    qty: int
    price: Decimal


class Invoice(BaseModel):
    number: str
    date: Day
    seller: str
    buyer: str | None
    lines: list[Line]
    total: Decimal
    iban: str | None


class Letter(BaseModel):
    invoice_number: str | None
    invoice_date: Day | None
    vendor: str | None
    customer: str | None
    total: Decimal | None
    due_date: Day | None


class Job(BaseModel):
    title: str
    company: str | None
    location: str | None
    salary: int | None
    start_date: Day | None
    contact_email: str | None
    remote: str | None


class JobAd(Job):
    tasks: list[str]
    benefits: list[str] = Field(description="what we offer")


class Event(BaseModel):
    name: str
    date: Day
    start_time: str | None
    venue: str | None
    price: Decimal | None
    organiser: str | None


class Recipe(BaseModel):
    title: str
    servings: int | None
    preparation_time: str | None
    ingredients: list[str]


class Contact(BaseModel):
    name: str
    role: str | None
    phone: str | None
    email: str | None
    address: str | None
    website: str | None


class Spec(BaseModel):
    model: str
    manufacturer: str | None
    screen_size_inch: float | None
    memory_gb: int | None
    battery_mah: int | None
    weight_g: int | None
    price: Decimal | None
    colours: list[str]


class Lease(BaseModel):
    landlord: str
    tenant: str
    monthly_rent: Decimal
    deposit: Decimal | None
    start_date: Day | None
    pets_allowed: bool


class Flight(BaseModel):
    airline: str | None
    flight_number: str
    departure: str | None = Field(description="airport of departure")
    arrival: str | None = Field(description="airport of arrival")
    passenger: str
    seat: str | None
    booking_code: str | None


class Row(BaseModel):
    product: str
    price: Decimal


class Receipt(BaseModel):
    shop: str
    receipt_number: str | None
    purchase_date: Day
    payment_method: str | None
    items: list[Row]
    total: Decimal


class Resume(BaseModel):
    name: str
    email: str | None
    phone: str | None
    degree: str | None
    university: str | None
    skills: list[str]
    languages: list[str]


class Goods(BaseModel):
    name: str
    sku: str | None
    weight_kg: float | None
    length_cm: int | None
    material: str | None
    price: Decimal | None
    colour: str | None
    warranty_years: int | None


class Ticket(BaseModel):
    ticket_id: str
    reporter: str | None
    priority: Literal["low", "medium", "high"]
    opened_on: Day | None
    affected_version: str | None
    assignee: str | None


class Lab(BaseModel):
    patient: str
    date_of_birth: Day | None
    haemoglobin: float | None
    glucose: float | None
    physician: str | None
    laboratory: str | None


class Contract(BaseModel):
    client: str | None
    contractor: str | None
    hourly_rate: Decimal
    currency: Literal["EUR", "USD", "GBP"]
    start_date: Day | None
    end_date: Day | None
    notice_period: str | None


class Shipment(BaseModel):
    tracking_number: str
    carrier: str | None
    sender: str | None
    recipient: str | None
    parcels: int | None
    weight_kg: float | None
    delivered_on: Day | None


class Course(BaseModel):
    title: str
    teacher: str | None
    room: str | None
    credits: int | None
    topics: list[str]
    exam_date: Day | None


class Ware(BaseModel):
    sku: str
    name: str
    quantity: int
    unit_price: Decimal


class Claim(BaseModel):
    policy_number: str
    insured: str | None
    damage_date: Day | None
    amount_claimed: Decimal | None
    vehicle: str | None
    witness: str | None


class Hotel(BaseModel):
    hotel: str
    guest: str | None
    arrival: Day | None
    departure: Day | None
    nights: int | None
    price_per_night: Decimal | None
    breakfast: str | None


class Paper(BaseModel):
    title: str
    authors: list[str]
    year: int | None
    journal: str | None
    doi: str | None
    keywords: list[str]


class Order(BaseModel):
    order_id: str
    ordered_on: Day | None
    ship_to: str | None
    items: list[Ware]
    shipping_cost: Decimal | None
    grand_total: Decimal


class News(BaseModel):
    company: str
    ceo: str | None
    revenue: Decimal | None
    employees: int | None
    headquarters: str | None


class Meeting(BaseModel):
    date: Day
    chair: str | None
    minutes_by: str | None
    attendees: list[str]
    decisions: list[str]
    next_meeting: Day | None


SCHEMAS: dict[str, type[BaseModel]] = {
    model.__name__: model
    for model in (
        Claim,
        Contact,
        Contract,
        Course,
        Event,
        Flight,
        Goods,
        Hotel,
        Invoice,
        JobAd,
        Lab,
        Lease,
        Letter,
        Meeting,
        News,
        Order,
        Paper,
        Receipt,
        Recipe,
        Resume,
        Shipment,
        Spec,
        Ticket,
    )
}
