"""A storm of parameters, in short: each message comes from exactly one configuration."""

from reliability.storm import CONFIGURATIONS, storm


def test_every_message_is_of_one_configuration():
    outcome = storm(2.0)
    assert outcome.sets > 10 and outcome.refused > 0
    assert outcome.wrongly_judged == 0
    assert set(outcome.messages) == set(CONFIGURATIONS)
    assert outcome.torn == 0
    assert outcome.rear.wrong == 0  # another node's parameters stay
