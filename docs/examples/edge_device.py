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

from bokeh_sampledata.sea_surface_temperature import sea_surface_temperature
from bokeh_sampledata.world_cities import data as world_cities

import kvstore

DAY = 86_400.0
LATITUDE, LONGITUDE = 42.5, -70.6  # in Massachusetts Bay


class Device:
    """A log and a map in one bounded store."""

    def __init__(self, path: Path) -> None:
        self.now = 0.0
        self.store = kvstore.open(path, max_size=256 * 1024, cache_size=128 * 1024, clock=lambda: self.now)
        self.log = self.store.namespace("log")
        self.tiles = self.store.namespace("tiles")
        self.drawn = 0

    def write_down(self, day: str, readings: list[tuple[int, float]]) -> None:
        """Keep a day's readings, each Celsius at a second since the epoch."""
        while True:
            try:
                self.log.set(day, readings, ttl=365 * DAY)
                return
            except kvstore.StoreFullError:
                self.make_room(day)

    def make_room(self, day: str) -> None:
        """Let go of what is past its time, or else, earlier than was wanted, of the oldest 30 days."""
        purged = self.store.expire()
        if purged:
            print(f"{day}: full; {purged} records were past their time")
        else:
            oldest = list(self.log.scan_keys(limit=30))
            self.log.delete_many(oldest)
            print(f"{day}: full; dropped {oldest[0]} to {oldest[-1]}")

    def redraw(self) -> list[str]:
        """The places on the nine tiles around the device."""
        south, west = math.floor(LATITUDE), math.floor(LONGITUDE)
        return [place for up in (-1, 0, 1) for right in (-1, 0, 1) for place in self.tile(south + up, west + right)]

    def tile(self, south: int, west: int) -> list[str]:
        """The places of one square degree."""
        return self.tiles.get_or_set((south, west), lambda: self.draw(south, west), ttl=30 * DAY)

    def draw(self, south: int, west: int) -> list[str]:
        """Make a tile, by looking through all the places of the world."""
        self.drawn += 1
        inside = world_cities.lat.between(south, south + 1) & world_cities.lng.between(west, west + 1)
        return world_cities.name[inside].tolist()


def main() -> int:
    temperature = sea_surface_temperature.temperature
    with tempfile.TemporaryDirectory() as place:
        device = Device(Path(place, "device.kv"))
        begin = time.perf_counter()
        for date, readings in temperature.groupby(temperature.index.date):
            device.now = readings.index[-1].timestamp()
            device.write_down(str(date), [(int(at.timestamp()), celsius) for at, celsius in readings.items()])
            places = device.redraw()
        seconds, stats = time.perf_counter() - begin, device.store.stats()
        kept = list(device.log)
        print(
            f"{len(temperature):,} readings logged; {kept[0]} to {kept[-1]} kept, in {stats.file_bytes / 1024:.0f} KiB"
        )
        print(f"screen drawn for the last time: {len(places)} places, such as {', '.join(sorted(places)[:3])}")
        tiles = stats.namespaces["tiles"]
        print(
            f"{tiles.lookups:,} tiles shown in {seconds:.2f} s, {device.drawn} of them made; {tiles.hit_rate or 0:.1%} hits"
        )
        device.store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
