"""Places: the oldest stranger makes room, who is known stays, and no address has more than its share."""

import gevent

from argotun.transport.places import Place, Places


def taken(places: Places, address: str) -> Place:
    place = places.take(address)
    assert place is not None
    return place


def test_a_full_port_drops_the_oldest_stranger() -> None:
    places = Places(3, 3)
    first, second, third = (taken(places, name) for name in "abc")
    first.prove()
    fourth = taken(places, "d")
    assert [each.dropped for each in (first, second, third, fourth)] == [False, True, False, False]
    assert (places.taken, places.dropped, places.refused) == (3, 1, 0)


def test_an_address_drops_its_own_and_nobody_elses() -> None:
    places = Places(10, 2)
    other, first, _ = taken(places, "a"), taken(places, "b"), taken(places, "b")
    taken(places, "b")
    assert (other.dropped, first.dropped) == (False, True)


def test_where_all_are_known_the_new_one_is_refused() -> None:
    places = Places(3, 2)
    for _ in range(2):
        taken(places, "a").prove()
    assert places.take("a") is None
    taken(places, "b").prove()
    assert places.take("c") is None
    assert (places.taken, places.refused) == (3, 2)


def test_a_place_is_free_again_whoever_had_it() -> None:
    places = Places(2, 1)
    for _ in range(5):
        place = taken(places, "a")
        place.prove()
        place.leave()
        place.leave()
    assert (places.taken, places._by_address, places._strangers, places._strangers_of) == (0, {}, {}, {})


def test_a_proxys_connections_count_for_whom_they_are() -> None:
    places = Places(10, 1)
    first, second = taken(places, ""), taken(places, "")
    assert first.move("a")
    first.prove()
    assert not second.move("a")
    assert second.move("b")


def test_the_one_that_is_dropped_is_told_wherever_it_waits() -> None:
    places = Places(1, 1)
    ended: list[str] = []

    def serve() -> None:
        try:
            gevent.sleep(60)
        except OSError as error:
            ended.append(str(error))

    place = taken(places, "a")
    place.greenlet = gevent.spawn_raw(serve)
    gevent.sleep(0)
    taken(places, "b")
    gevent.sleep(0.01)
    assert len(ended) == 1


def test_the_last_tenth_is_scarce() -> None:
    places = Places(20, 20)
    places_taken = [taken(places, "a") for _ in range(20)]
    assert [place.scarce for place in places_taken] == [False] * 18 + [True] * 2
    for place in places_taken[:5]:
        place.leave()
    assert not places_taken[-1].scarce
