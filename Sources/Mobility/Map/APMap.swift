/// The access points of a network: names, positions, hosts and zones.
public struct APMap: Sendable {
    /// The access points, in the order of the file.
    public private(set) var accessPoints: [AccessPoint]
    /// The projection that made metres of latitude and longitude; nil for maps given in metres.
    public let projection: TransverseMercator?
    private var indexByName: [String: Int]

    /// Makes a map; where a name appears twice the last one counts.
    ///
    /// Positions given only as latitude and longitude are projected around their centre.
    public init(_ given: [AccessPoint] = []) {
        let geodetic = given.compactMap { $0.x == nil ? $0.geodetic : nil }
        let projection = Self.centre(of: geodetic).map { TransverseMercator(origin: $0) }
        self.projection = projection
        accessPoints = []
        indexByName = [:]
        accessPoints.reserveCapacity(given.count)
        for var point in given {
            if point.x == nil, let place = point.geodetic, let projection {
                (point.x, point.y) = projection.project(place)
            }
            if let old = indexByName[point.name] {
                accessPoints[old] = point
            } else {
                indexByName[point.name] = accessPoints.count
                accessPoints.append(point)
            }
        }
    }

    /// The access point of that name.
    public subscript(name: String) -> AccessPoint? {
        indexByName[name].map { accessPoints[$0] }
    }

    /// Place of the access point of that name in `accessPoints`.
    public func index(of name: String) -> Int? { indexByName[name] }

    /// The host that serves users of this access point: the mapped one, else the access point's own name.
    public func host(of ap: String) -> String { self[ap]?.host ?? ap }

    /// Maps an access point to a host, adding the access point where the map does not have it.
    public mutating func setHost(_ host: String?, of ap: String) {
        if let index = indexByName[ap] {
            accessPoints[index].host = host
        } else {
            indexByName[ap] = accessPoints.count
            accessPoints.append(AccessPoint(name: ap, host: host))
        }
    }

    /// Names of the zones, sorted.
    public var zones: [String] { Set(accessPoints.compactMap(\.zone)).sorted() }

    /// The access points of a zone, in the order of the map.
    public func accessPoints(inZone zone: String) -> [AccessPoint] { accessPoints.filter { $0.zone == zone } }

    /// The mean direction of the places, which also holds across the date line.
    private static func centre(of places: [GeodeticPosition]) -> GeodeticPosition? {
        guard let first = places.first else { return nil }
        var latitude = 0.0
        var offset = 0.0
        for place in places {
            latitude += place.latitude
            var degrees = place.longitude - first.longitude
            if degrees > 180 { degrees -= 360 }
            if degrees < -180 { degrees += 360 }
            offset += degrees
        }
        let count = Double(places.count)
        var longitude = first.longitude + offset / count
        if longitude > 180 { longitude -= 360 }
        if longitude < -180 { longitude += 360 }
        return GeodeticPosition(latitude: latitude / count, longitude: longitude)
    }
}
