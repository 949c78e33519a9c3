"""An edge device that logs a sensor and shows a map, in a store of 256 KiB: expiry, and what to do when it is full.

The readings are a buoy's, the sea's temperature at every half hour of 13 months. The device writes each day's down at
midnight, to be kept for a year, and redraws its screen, which shows the places around it. Map tiles take long to make, and
are made anew every 30 days. The clock is the readings' own.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bokeh_sampledata.sea_surface_temperature import sea_surface_temperature
from bokeh_sampledata.world_cities import data as world_cities

import kvstore

DAY = 86_400.0
LATITUDE, LONGITUDE = 42.5, -70.6  # in Massachusetts Bay
READING = np.dtype([("at", "datetime64[s]"), ("celsius", np.float64)])


def draw(south: int, west: int) -> list[str]:
    """Make the map tile of a square degree, by looking through all the places of the world."""
    inside = world_cities.lat.between(south, south + 1) & world_cities.lng.between(west, west + 1)
    places: list[str] = world_cities.name[inside].tolist()
    return places


class Device:
    """A log and a map in one bounded store."""

    def __init__(self, path: Path) -> None:
        self.now = 0.0
        self.store = kvstore.open(path, max_size=256 * 1024, cache_size=128 * 1024, clock=lambda: self.now)
        self.log = self.store.namespace("log")
        self.tile = self.store.namespace("tiles").memoize(ttl=30 * DAY)(draw)

    def write_down(self, day: str, readings: np.ndarray) -> None:
        """Keep a day's readings."""
        while True:
            try:
                self.log.set(day, readings, ttl=365 * DAY)
                return
            except kvstore.StoreFullError:
                self.make_room(day)

    def make_room(self, day: str) -> None:
        """Let go of what is past its time, or else, earlier than was wanted, of the oldest 30 days.

        Every write purges a few ended records by itself, so many are left only after the device has been off.
        """
        expired = self.store.expire()
        if expired:
            print(f"{day}: full; {expired} records were past their time")
        else:
            oldest = list(self.log.scan_keys(limit=30))
            self.log.delete_many(oldest)
            print(f"{day}: full; dropped {oldest[0]!s} to {oldest[-1]!s}")

    def redraw(self) -> list[str]:
        """The places on the nine tiles around the device."""
        south, west = math.floor(LATITUDE), math.floor(LONGITUDE)
        return [place for up in (-1, 0, 1) for right in (-1, 0, 1) for place in self.tile(south + up, west + right)]


def main() -> int:
    """Live through the 13 months, and say what is left of them."""
    temperature = sea_surface_temperature.temperature
    with tempfile.TemporaryDirectory() as place:
        device = Device(Path(place, "device.kv"))
        begin = time.perf_counter()
        for date, readings in temperature.groupby(temperature.index.date):
            device.now = readings.index[-1].timestamp()
            day = np.empty(len(readings), READING)
            day["at"], day["celsius"] = readings.index.tz_localize(None), readings
            device.write_down(str(date), day)
            places = device.redraw()
        seconds, stats, tiles = time.perf_counter() - begin, device.store.stats(), device.tile.stats()
        kept = list(device.log)
        warmest = max(readings["celsius"].max() for readings in device.log.values())
        size = stats.file_bytes // 1024
        print(f"{len(temperature):,} readings in {seconds:.2f} s; {kept[0]!s} to {kept[-1]!s} in {size} KiB")
        print(f"{warmest:.1f} degrees at the most; {len(places)} places on the screen, such as {places[0]}")
        print(
            f"{tiles.misses} tiles made, {tiles.hits:,} from the store ({tiles.hit_rate or 0:.1%}); "
            f"{tiles.seconds_saved:.2f} s saved"
        )
        device.store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
