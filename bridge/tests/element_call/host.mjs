// The client that has Element Call in it as a widget, as Element Web does: matrix-js-sdk behind
// matrix-widget-api. What it is asked for stands in the address.
import { ClientEvent, EventTimeline, RoomStateEvent, createClient } from "matrix-js-sdk";
import { ClientWidgetApi, Widget, WidgetDriver } from "matrix-widget-api";

const { homeserver, user, device, token, room, intent } = JSON.parse(
  decodeURIComponent(location.hash.slice(1)),
);
const id = "element-call";
const client = createClient({
  baseUrl: homeserver,
  userId: user,
  deviceId: device,
  accessToken: token,
  timelineSupport: true,
});
const inThisRoom = (event) => event.getRoomId() === room;
const raw = (event) => event.getEffectiveEvent();
window.actions = [];

class Driver extends WidgetDriver {
  async validateCapabilities(wanted) {
    // The server has no sticky events.
    return new Set([...wanted].filter((capability) => !capability.includes("msc4407")));
  }

  async sendEvent(type, content, key = null, where = null) {
    const to = where ?? room;
    const sent =
      key !== null
        ? await client.sendStateEvent(to, type, content, key)
        : await client.sendEvent(to, null, type, content);
    return { roomId: to, eventId: sent.event_id };
  }

  async sendDelayedEvent(delay, type, content, key = null, where = null) {
    const to = where ?? room;
    const sent =
      key !== null
        ? await client._unstable_sendDelayedStateEvent(to, { delay }, type, content, key)
        : await client._unstable_sendDelayedEvent(to, { delay }, null, type, content);
    return { roomId: to, delayId: sent.delay_id };
  }

  async cancelScheduledDelayedEvent(delay) {
    await client._unstable_cancelScheduledDelayedEvent(delay);
  }

  async restartScheduledDelayedEvent(delay) {
    await client._unstable_restartScheduledDelayedEvent(delay);
  }

  async sendScheduledDelayedEvent(delay) {
    await client._unstable_sendScheduledDelayedEvent(delay);
  }

  async sendToDevice() {}

  async readRoomTimeline() {
    return [];
  }

  async readRoomState(where, type, key) {
    const timeline = client.getRoom(where)?.getLiveTimeline();
    const found = timeline?.getState(EventTimeline.FORWARDS)?.getStateEvents(type, key);
    return (Array.isArray(found) ? found : found ? [found] : []).map(raw);
  }

  async readRoomAccountData() {
    return [];
  }

  async readStickyEvents() {
    return [];
  }

  async readEventRelations() {
    return { chunk: [] };
  }

  askOpenID(observer) {
    client.getOpenIdToken().then(
      (given) => observer.update({ state: "allowed", token: given }),
      () => observer.update({ state: "blocked" }),
    );
  }

  async getRtcTransports() {
    return { rtc_transports: await client._unstable_getRTCTransports() };
  }

  async getMediaConfig() {
    return {};
  }

  getKnownRooms() {
    return [room];
  }

  processError(error) {
    if (!error?.errcode) return undefined;
    const response = { errcode: error.errcode, error: error.message };
    const said = { http_status: error.httpStatus, http_headers: {}, url: "", response };
    return { matrix_api_error: said };
  }
}

await new Promise((resolve) => {
  client.on(ClientEvent.Sync, (state) => state === "PREPARED" && resolve());
  client.startClient({ initialSyncLimit: 20 });
});
const asked = new URLSearchParams({
  widgetId: id,
  parentUrl: location.origin,
  roomId: room,
  userId: user,
  deviceId: device,
  baseUrl: homeserver,
  intent,
  skipLobby: "true",
  confineToRoom: "true",
  header: "none",
  lang: "en",
  theme: "dark",
  allowIceFallback: "false",
  perParticipantE2EE: "false",
});
const url = `${location.origin}/ec/index.html#?${asked.toString().replaceAll("%24", "$")}`;
const frame = document.createElement("iframe");
frame.allow = "microphone; camera; autoplay; display-capture; speaker-selection";
document.body.append(frame);
const widget = new Widget({ id, creatorUserId: user, type: "m.custom", url, waitForIframeLoad: false });
const api = new ClientWidgetApi(widget, frame, new Driver());
const answered = ["io.element.join", "im.vector.hangup", "io.element.close", "io.element.device_mute"];
for (const action of [...answered, "set_always_on_screen"])
  api.on(`action:${action}`, (event) => {
    event.preventDefault();
    window.actions.push(action);
    const answer = action === "set_always_on_screen" ? { success: true } : {};
    api.transport.reply(event.detail, answer);
  });
window.hangUp = () => api.transport.send("im.vector.hangup", {});
api.setViewedRoomId(room);
client.on(ClientEvent.Event, (event) => {
  if (inThisRoom(event)) api.feedEvent(raw(event)).catch(console.error);
});
client.on(RoomStateEvent.Events, (event) => {
  if (inThisRoom(event)) api.feedStateUpdate(raw(event)).catch(console.error);
});
frame.src = url;
