"""Getting credit by card, through Stripe.

What Stripe sends is a hint only: every event leads to one payment or subscription, whose present state is then fetched
from Stripe under the lock of our own row and posted. So events may come twice, late, in any order, or not at all.
"""
