/// An access point of the map.
public struct AccessPoint: Sendable, Hashable {
    /// Name, as roaming records spell it.
    public var name: String
    /// Metres east of the map's origin; nil where the position is not known.
    public var x: Double?
    /// Metres north of the map's origin; nil where the position is not known.
    public var y: Double?
    /// Where it is on the earth, where the map was given so.
    public var geodetic: GeodeticPosition?
    /// The host that serves users of this access point; nil: the access point's own name is the host's.
    public var host: String?
    /// Name of the zone (building, campus, district) it belongs to.
    public var zone: String?

    /// Makes an access point.
    public init(
        name: String,
        x: Double? = nil,
        y: Double? = nil,
        geodetic: GeodeticPosition? = nil,
        host: String? = nil,
        zone: String? = nil
    ) {
        self.name = name
        self.x = x
        self.y = y
        self.geodetic = geodetic
        self.host = host
        self.zone = zone
    }
}
