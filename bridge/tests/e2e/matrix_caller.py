"""A Matrix user's client in a call, as Element Call is one on LiveKit: says one tone, and says which of
some it hears from whom.

The first line that it reads is {"url", "jwt", "tone", "tones"}, where tone may be null; then a line is said for each 200 ms in
which one of the tones stands out, {"from", "tone"}, one first of all, {"joined": its own name}, and
{"over": true} once it is put out.
"""

import asyncio
import json
import sys

import numpy
from livekit import rtc

RATE = 48_000
WINDOW = RATE // 5
FRAME = RATE // 50


def say(line):
    print(json.dumps(line), flush=True)


async def speak(source, tone):
    place = 0
    while True:
        at = numpy.arange(place, place + FRAME)
        sound = 0.4 * numpy.sin(2 * numpy.pi * tone * at / RATE)
        data = (sound * 32_767).astype(numpy.int16).tobytes()
        await source.capture_frame(rtc.AudioFrame(data, RATE, 1, FRAME))
        place += FRAME


async def listen(track, identity, tones):
    sound = numpy.zeros(0)
    waves = [numpy.exp(-2j * numpy.pi * tone * numpy.arange(WINDOW) / RATE) for tone in tones]
    async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1):
        frame = numpy.frombuffer(event.frame.data, dtype=numpy.int16) / 32_768
        sound = numpy.concatenate([sound, frame])
        while len(sound) >= WINDOW:
            window, sound = sound[:WINDOW], sound[WINDOW:]
            levels = [2 * abs(numpy.dot(window, wave)) / WINDOW for wave in waves]
            first, second = sorted(range(len(tones)), key=lambda n: -levels[n])[:2]
            if levels[first] > 0.02 and levels[first] > 3 * levels[second]:
                say({"from": identity, "tone": tones[first]})


async def main():
    asked = json.loads(sys.stdin.readline())
    room, listening = rtc.Room(), []

    @room.on("track_subscribed")
    def subscribed(track, _, participant):
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            heard = listen(track, participant.identity, asked["tones"])
            listening.append(asyncio.create_task(heard))

    @room.on("disconnected")
    def disconnected(_):
        say({"over": True})

    await room.connect(asked["url"], asked["jwt"])
    speaking = None
    if asked["tone"] is not None:
        source = rtc.AudioSource(RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await room.local_participant.publish_track(track, options)
        speaking = asyncio.create_task(speak(source, asked["tone"]))
    say({"joined": room.local_participant.identity})
    # Until nobody holds the other end any more.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    if speaking:
        speaking.cancel()
    await room.disconnect()


asyncio.run(main())
