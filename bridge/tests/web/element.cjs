// The shell around matrix-react-sdk, in place of Element's own: platform, configuration, address.
const React = require("react");
const ReactDOM = require("react-dom");
const { default: BasePlatform } = require("matrix-react-sdk/lib/BasePlatform");
const { default: PlatformPeg } = require("matrix-react-sdk/lib/PlatformPeg");
const { default: SdkConfig } = require("matrix-react-sdk/lib/SdkConfig");
const { setLanguage } = require("matrix-react-sdk/lib/languageHandler");

class Platform extends BasePlatform {
  async getConfig() {
    return (await fetch("config.json")).json();
  }
  async getAppVersion() {
    return "matrix-react-sdk 3.114.0";
  }
  async requestNotificationPermission() {
    return "denied";
  }
  getDefaultDeviceDisplayName() {
    return "Chromium";
  }
  getHumanReadableName() {
    return "Web Platform";
  }
  supportsNotifications() {
    return false;
  }
  reload() {
    location.reload();
  }
  get baseUrl() {
    return location.href.split("#")[0];
  }
}

async function start() {
  PlatformPeg.set(new Platform());
  SdkConfig.put(await PlatformPeg.get().getConfig());
  await setLanguage("en");
  // These read the configuration as they are loaded.
  const { default: AutoDiscovery } = require("matrix-react-sdk/lib/utils/AutoDiscoveryUtils");
  const { default: MatrixChat } = require("matrix-react-sdk/lib/components/structures/MatrixChat");
  const server = await AutoDiscovery.validateServerConfigWithStaticUrls(
    SdkConfig.get().default_server_config["m.homeserver"].base_url,
  );
  SdkConfig.add({ validated_server_config: { ...server, isDefault: true } });
  const screen = () => location.hash.replace(/^#\/?/, "");
  const chat = ReactDOM.render(
    React.createElement(MatrixChat, {
      config: SdkConfig.get(),
      defaultDeviceDisplayName: "Chromium",
      initialScreenAfterLogin: { screen: screen(), params: {} },
      onNewScreen: (to) => history.replaceState(null, "", `#/${to}`),
      realQueryParams: {},
      startingFragmentQueryParams: {},
    }),
    document.getElementById("matrixchat"),
  );
  addEventListener("hashchange", () => chat.showScreen(screen(), {}));
}

start();
