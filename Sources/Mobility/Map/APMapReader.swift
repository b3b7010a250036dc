/// Reads AP maps: CSV with a header, or GeoJSON.
public enum APMapReader {
    /// Reads a map, whichever of the two formats the bytes are.
    ///
    /// - Throws: `MobilityError` (`.map`) with the line or the feature at fault.
    public static func read(_ bytes: [UInt8]) throws(MobilityError) -> APMap {
        let first = bytes.first { $0 > 32 && $0 < 0x80 }
        return try first == UInt8(ascii: "{") ? readGeoJSON(bytes) : readCSV(bytes)
    }

    /// Reads CSV: a column `ap`, and `x_m,y_m` or `lat,lon`; `host` and `zone` where there are any.
    ///
    /// - Throws: `MobilityError` (`.map`) with the line at fault.
    public static func readCSV(_ bytes: [UInt8]) throws(MobilityError) -> APMap {
        // Lines are counted as an editor counts them: empty ones are skipped, not left out.
        let lines = bytes.split(separator: 10, omittingEmptySubsequences: false).enumerated()
            .filter { $0.element.contains { $0 > 32 } }
        guard let header = lines.first?.element else { throw failure("the AP map is empty") }
        let names = fields(header).map { $0.lowercased() }
        func find(_ spellings: String...) -> Int? { names.firstIndex { spellings.contains($0) } }
        guard let name = find("ap", "name", "bssid", "id") else {
            throw failure("the AP map's first line has no column `ap`")
        }
        let metres = (find("x_m", "x"), find("y_m", "y"))
        let degrees = (find("lat", "latitude"), find("lon", "lng", "longitude"))
        let (host, zone) = (find("host"), find("zone"))
        var points: [AccessPoint] = []
        points.reserveCapacity(lines.count)
        for (number, line) in lines.dropFirst() {
            let values = fields(line)
            guard values.count <= names.count else {
                throw failure("line \(number + 1) of the AP map has \(values.count) columns, not \(names.count)")
            }
            func value(_ column: Int?) -> String? {
                guard let column, column < values.count, !values[column].isEmpty else { return nil }
                return values[column]
            }
            guard let ap = value(name) else { throw failure("line \(number + 1) of the AP map names no access point") }
            var point = AccessPoint(name: ap, host: value(host), zone: value(zone))
            if let x = value(metres.0), let y = value(metres.1) {
                point.x = Double(x)
                point.y = Double(y)
                guard let x = point.x, let y = point.y, x.isFinite, y.isFinite else {
                    throw failure("line \(number + 1) of the AP map has a position that is not a number")
                }
            } else if let latitude = value(degrees.0), let longitude = value(degrees.1) {
                guard let place = place(Double(latitude), Double(longitude)) else {
                    throw failure("line \(number + 1) of the AP map has no valid latitude and longitude")
                }
                point.geodetic = place
            } else if [metres.0, metres.1, degrees.0, degrees.1].contains(where: { value($0) != nil }) {
                throw failure("line \(number + 1) of the AP map has half a position")
            }
            points.append(point)
        }
        return APMap(points)
    }

    static func place(_ latitude: Double?, _ longitude: Double?) -> GeodeticPosition? {
        guard let latitude, let longitude, abs(latitude) <= 90, abs(longitude) <= 180 else { return nil }
        return GeodeticPosition(latitude: latitude, longitude: longitude)
    }

    static func failure(_ cause: String) -> MobilityError {
        MobilityError(
            .map,
            cause: cause,
            remedy: "give CSV with the columns ap,x_m,y_m or ap,lat,lon, or a GeoJSON FeatureCollection of points"
        )
    }

    private static func fields(_ line: ArraySlice<UInt8>) -> [String] {
        line.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self).trimmed
        }
    }
}
