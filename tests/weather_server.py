"""A local HTTP server that answers as the weather services document it, or as they fail."""

import json
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# As openweathermap.org/current documents the answer: 12:30 UTC, two hours ahead of it in Rome.
OWM = {
    "coord": {"lon": 12.5, "lat": 41.9},
    "weather": [{"id": 802, "main": "Clouds", "description": "scattered clouds", "icon": "03d"}],
    "base": "stations",
    "main": {"temp": 21.4, "feels_like": 21.0, "pressure": 1015, "humidity": 60},
    "visibility": 10000,
    "wind": {"speed": 4.1, "deg": 80},
    "clouds": {"all": 40},
    "dt": 1718022600,
    "sys": {"type": 1, "id": 1, "country": "IT", "sunrise": 1717990500, "sunset": 1718045100},
    "timezone": 7200,
    "id": 3169070,
    "name": "Rome",
    "cod": 200,
}
# As open-meteo.com/en/docs documents it.
METEO = {
    "latitude": 41.875,
    "longitude": 12.5,
    "utc_offset_seconds": 7200,
    "timezone": "Europe/Rome",
    "current_units": {"temperature_2m": "C", "wind_speed_10m": "m/s"},
    "current": {
        "time": "2024-06-10T05:30", "interval": 900, "temperature_2m": -3.2, "weather_code": 73,
        "wind_speed_10m": 11.0, "is_day": 1,
    },
    "daily": {"time": ["2024-06-10"], "sunrise": ["2024-06-10T05:35"], "sunset": ["2024-06-10T20:45"]},
}  # fmt: skip
PLACES = {
    "results": [
        {"name": "Rome", "latitude": 34.26, "longitude": -85.16, "country": "United States",
         "country_code": "US", "admin1": "Georgia"},
        {"name": "Rome", "latitude": 41.89, "longitude": 12.51, "country": "Italy", "country_code": "IT",
         "admin1": "Lazio"},
    ],
    "generationtime_ms": 0.8,
}  # fmt: skip


class WeatherServer:
    """``answers``: by path, what to give in turn, the last again and again: (status, body), and maybe a dict
    of headers and seconds to wait. ``asked``: (path, query) of every request.
    """

    def __init__(self, url: str):
        self.url, self.asked = url, []
        self.answers = {
            "/data/2.5/weather": [(200, OWM)],
            "/v1/forecast": [(200, METEO)],
            "/v1/search": [(200, PLACES)],
        }

    def next(self, path: str):
        left = self.answers[path]
        return left.pop(0) if len(left) > 1 else left[0]

    def environment(self) -> dict[str, str]:
        names = ("OPENWEATHERMAP_URL", "OPEN_METEO_URL", "OPEN_METEO_GEOCODING_URL")
        return {name: self.url for name in names}


@contextmanager
def weather_server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            query = {k: v[0] for k, v in parse_qs(parts.query).items()}
            server.asked.append((parts.path, query))
            answer = server.next(parts.path)
            status, body, headers, seconds = (*answer, *({}, 0)[len(answer) - 2 :])
            time.sleep(seconds)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

        def handle(self):
            with suppress(BrokenPipeError, ConnectionResetError):  # who asked went away
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = WeatherServer(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        http.shutdown()
        thread.join()
