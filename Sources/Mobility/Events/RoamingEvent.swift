/// What one event source said, before anybody asked whether it is news.
///
/// Times are seconds since the Unix epoch. `RoamingNormalizer` turns these into `RoamingRecord`s.
package struct RoamingEvent: Sendable, Hashable, Codable {
    /// What the source said about the station.
    package enum Kind: String, Sendable, Hashable, Codable {
        /// The station associated (RADIUS Start, AP-STA-CONNECTED, ENTERING_AREA_EVENT).
        case associated
        /// The station is associated and has been for `sessionSeconds` (RADIUS Interim-Update).
        case present
        /// The station left (RADIUS Stop, AP-STA-DISCONNECTED, LEAVING_AREA_EVENT).
        case disassociated
        /// Every association of this access point, or of this NAS, has ended (RADIUS Accounting-On and -Off).
        case reset
    }

    /// What was said.
    package var kind: Kind
    /// When it happened, by the source's clock.
    package var time: Double
    /// How coarse that clock is: the true time lies in `time ..< time + resolution`.
    ///
    /// RADIUS timestamps have 1 s.
    package var resolution: Double = 0
    /// When we heard of it, by our clock.
    package var received: Double
    /// Number of the day, in traces that count days.
    package var day: Int?
    /// The device: a MAC address in canonical spelling, or whatever name the source has for it.
    package var station: String?
    /// The user's name as the source spells it.
    package var userName: String?
    /// Names that the access point goes by, the most specific first.
    package var ap: [String]
    /// Who speaks for the access point (NAS-Identifier or address): what `reset` without an access point refers to.
    package var nas: String?
    /// The source's name of the association.
    package var session: String?
    /// How long the association had lasted at `time`, in seconds, where the source says so.
    package var sessionSeconds: Double?
    /// Signal strength in dBm.
    package var rssi: Int?
    /// Which kind of source said it.
    package var source: RoamingSource
}
