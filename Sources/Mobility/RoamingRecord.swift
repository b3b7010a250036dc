/// What a roaming record says happened between a station and an access point.
public enum RoamingKind: String, Sendable, Hashable, Codable, CaseIterable {
    /// The station associated and was not associated anywhere before.
    case start
    /// The station associated and left another access point for it.
    case roam
    /// The station left its access point for none.
    case stop

    /// Whether the record puts the station on an access point; predictions are made at these.
    public var isAssociation: Bool { self != .stop }
}

/// Where a roaming record came from.
public enum RoamingSource: String, Sendable, Hashable, Codable, CaseIterable {
    /// RADIUS accounting (RFC 2866).
    case radius
    /// A hostapd control socket.
    case hostapd
    /// ETSI MEC 028 WLAN information.
    case mecWLAN = "mec-wlan"
    /// ETSI MEC 013 location.
    case mecLocation = "mec-location"
    /// `smirun roam`, or a line of JSON or CSV.
    case line
}

/// One association event, the same whatever event source told it.
///
/// This is the only type that passes from the event sources (`Events`) to the predictor (`Prediction`) and to the
/// orchestrator.
public struct RoamingRecord: Sendable, Hashable, Codable {
    /// When it happened by the source's clock, in seconds: since the Unix epoch where `day` is nil, else since the
    /// start of that day.
    public var time: Double
    /// Number of the day, in recorded traces that count days; nil for live sources.
    public var day: Int?
    /// Who: the SMI's user.
    public var user: String
    /// The user's device, normally a MAC address in lower case with colons; equals `user` where a source has none.
    public var station: String
    /// Name of the access point, as in the AP map.
    public var ap: String
    /// What happened.
    public var kind: RoamingKind
    /// Received signal strength in dBm, where the source tells it.
    public var rssi: Int?
    /// Which kind of source told it.
    public var source: RoamingSource
    /// The source's name of the session (RADIUS Acct-Session-Id), where it has one.
    public var session: String?
    /// True where the station returns to the access point that it left at most 10 s ago (A-B-A); nil where nobody judged.
    public var flap: Bool?

    /// Makes a record; `station` defaults to the user's name.
    public init(
        time: Double,
        day: Int? = nil,
        user: String,
        station: String? = nil,
        ap: String,
        kind: RoamingKind,
        rssi: Int? = nil,
        source: RoamingSource = .line,
        session: String? = nil,
        flap: Bool? = nil
    ) {
        self.time = time
        self.day = day
        self.user = user
        self.station = station ?? user
        self.ap = ap
        self.kind = kind
        self.rssi = rssi
        self.source = source
        self.session = session
        self.flap = flap
    }

    /// Seconds on one time line: `day` times 86,400 plus `time`.
    public var absoluteTime: Double { Double(day ?? 0) * 86_400 + time }
}
