/// The part of smirun.toml that says where roaming events come from; docs/roaming-events.md describes every key.
public struct RoamingSourcesConfiguration: Sendable, Hashable, Codable {
    /// The section `[radius]`.
    public struct Radius: Sendable, Hashable, Codable {
        /// One peer or network.
        public struct Client: Sendable, Hashable, Codable {
            /// Address or prefix: `192.0.2.7`, `10.0.0.0/8`, `fd00::/16`.
            public var address: String
            /// The shared secret.
            public var secret: String
            /// Name of the access point, where this client is exactly one.
            public var ap: String?

            /// Makes a client.
            public init(address: String, secret: String, ap: String? = nil) {
                self.address = address
                self.secret = secret
                self.ap = ap
            }
        }

        /// `ADDRESS:PORT`, usually port 1813; absent turns RADIUS off.
        public var listen: String?
        /// Who may send.
        public var clients: [Client]?

        /// Makes the section.
        public init(listen: String? = nil, clients: [Client]? = nil) {
            self.listen = listen
            self.clients = clients
        }
    }

    /// The section `[hostapd]`.
    public struct Hostapd: Sendable, Hashable, Codable {
        /// One control socket.
        public struct Socket: Sendable, Hashable, Codable {
            /// Such as `/run/hostapd/wlan0`.
            public var path: String
            /// Name of the access point; absent asks hostapd for its BSSID.
            public var ap: String?

            /// Makes a socket entry.
            public init(path: String, ap: String? = nil) {
                self.path = path
                self.ap = ap
            }
        }

        /// The control sockets to attach to.
        public var sockets: [Socket]?
        /// Whether to ask for the EAP identity of stations; default true.
        public var identity: Bool?
        /// Where our ends of the sockets are made; default the daemon's run directory.
        public var directory: String?

        /// Makes the section.
        public init(sockets: [Socket]? = nil, identity: Bool? = nil, directory: String? = nil) {
            self.sockets = sockets
            self.identity = identity
            self.directory = directory
        }
    }

    /// The section `[mec]`.
    public struct MEC: Sendable, Hashable, Codable {
        /// One subscriber of MEC 021 notifications.
        public struct Subscriber: Sendable, Hashable, Codable {
            /// The callback address.
            public var url: String
            /// A bearer token to send along.
            public var token: String?

            /// Makes a subscriber.
            public init(url: String, token: String? = nil) {
                self.url = url
                self.token = token
            }
        }

        /// `ADDRESS:PORT` of the HTTP consumer; absent turns it off.
        public var listen: String?
        /// The bearer token that posters must show.
        public var token: String?
        /// Most bytes of a body; default 1 MiB.
        public var limit: Int?
        /// Who is told of our hand-offs.
        public var subscribers: [Subscriber]?

        /// Makes the section.
        public init(
            listen: String? = nil,
            token: String? = nil,
            limit: Int? = nil,
            subscribers: [Subscriber]? = nil
        ) {
            self.listen = listen
            self.token = token
            self.limit = limit
            self.subscribers = subscribers
        }
    }

    /// The section `[roaming]`.
    public struct Rules: Sendable, Hashable, Codable {
        /// Seconds that events are held to be put in order; default 0: hand-offs wait for nothing.
        public var reorder: Double?
        /// Seconds that a stop waits for an association elsewhere; default 3.
        public var grace: Double?
        /// Whether access points outside the map are used; default only where there is no map.
        public var unknown: Bool?

        /// Makes the section.
        public init(reorder: Double? = nil, grace: Double? = nil, unknown: Bool? = nil) {
            self.reorder = reorder
            self.grace = grace
            self.unknown = unknown
        }
    }

    /// RADIUS accounting.
    public var radius: Radius?
    /// hostapd control sockets.
    public var hostapd: Hostapd?
    /// ETSI MEC, both ways.
    public var mec: MEC?
    /// Device (MAC address, or MEC 013 address) to user.
    public var stations: [String: String]?
    /// Other names of access points (BSSID, NAS-Identifier, address) to their names in the map.
    public var aps: [String: String]?
    /// How events become records.
    public var roaming: Rules?

    /// Makes a configuration; without any source, only offered lines become records.
    public init(
        radius: Radius? = nil,
        hostapd: Hostapd? = nil,
        mec: MEC? = nil,
        stations: [String: String]? = nil,
        aps: [String: String]? = nil,
        roaming: Rules? = nil
    ) {
        self.radius = radius
        self.hostapd = hostapd
        self.mec = mec
        self.stations = stations
        self.aps = aps
        self.roaming = roaming
    }
}

extension RoamingSourcesConfiguration {
    /// Clients by prefix.
    ///
    /// Throws `RoamingError` for a prefix that is none or an empty secret.
    package func radiusClients() throws(RoamingError) -> IPPrefixTable<RadiusResponder.Client> {
        var table = IPPrefixTable<RadiusResponder.Client>()
        for client in radius?.clients ?? [] {
            guard let prefix = IPPrefix(client.address) else {
                throw RoamingError(
                    .configuration,
                    cause: "radius.clients: '\(client.address)' is no address or prefix",
                    remedy: "write for example address = \"10.0.0.0/8\""
                )
            }
            guard !client.secret.isEmpty else {
                throw RoamingError(
                    .configuration,
                    cause: "radius.clients: the secret of \(client.address) is empty",
                    remedy: "give it the secret that is configured in the access point"
                )
            }
            table.insert(.init(secret: Array(client.secret.utf8), accessPoint: client.ap), at: prefix)
        }
        return table
    }

    /// Who and where, given the names of the access points of the map.
    ///
    /// Throws `RoamingError` for a user that cannot be.
    package func directory(accessPoints: some Collection<String>) throws(RoamingError) -> RoamingDirectory {
        for (station, user) in stations ?? [:] where !RoamingDirectory.isUser(user) {
            throw RoamingError(
                .configuration,
                cause: "stations: '\(user)' (of \(station)) cannot be a user's name",
                remedy: "use lower-case letters, digits and hyphens, at most 32, beginning with a letter"
            )
        }
        return RoamingDirectory(
            names: accessPoints,
            aliases: aps ?? [:],
            stations: stations ?? [:],
            acceptsUnknownAccessPoints: roaming?.unknown
        )
    }

    var normalizerSettings: RoamingNormalizer.Settings {
        var settings = RoamingNormalizer.Settings()
        if let reorder = roaming?.reorder, reorder.isFinite { settings.reorderWindow = min(max(0, reorder), 60) }
        if let grace = roaming?.grace, grace.isFinite { settings.stopGrace = min(max(0, grace), 600) }
        return settings
    }
}
