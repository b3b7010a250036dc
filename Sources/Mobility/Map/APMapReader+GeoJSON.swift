import Foundation

extension APMapReader {
    private struct Collection: Decodable {
        var features: [Feature]
    }

    private struct Feature: Decodable {
        var id: Name?
        var geometry: Geometry?
        var properties: [String: Name]?
    }

    private struct Geometry: Decodable {
        var type: String
        var coordinates: [Double]

        enum CodingKeys: CodingKey {
            case type
            case coordinates
        }

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            type = try container.decode(String.self, forKey: .type)
            coordinates = type == "Point" ? try container.decode([Double].self, forKey: .coordinates) : []
        }
    }

    /// A string, or a number as its digits; anything else is nil.
    private struct Name: Decodable {
        var text: String?

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let string = try? container.decode(String.self) {
                text = string
            } else if let integer = try? container.decode(Int.self) {
                text = String(integer)
            } else if let number = try? container.decode(Double.self) {
                text = String(number)
            }
        }
    }

    /// Reads a FeatureCollection of points (longitude, latitude); properties `ap`, `host` and `zone`.
    ///
    /// - Throws: `MobilityError` (`.map`) with the feature at fault.
    public static func readGeoJSON(_ bytes: [UInt8]) throws(MobilityError) -> APMap {
        let collection: Collection
        do {
            collection = try JSONDecoder().decode(Collection.self, from: Data(bytes))
        } catch {
            throw failure("the AP map is not a GeoJSON FeatureCollection")
        }
        var points: [AccessPoint] = []
        for (number, feature) in collection.features.enumerated() {
            let properties = feature.properties ?? [:]
            guard let name = (properties["ap"] ?? properties["name"] ?? feature.id)?.text, !name.isEmpty else {
                throw failure("feature \(number + 1) of the AP map names no access point")
            }
            var point = AccessPoint(name: name, host: properties["host"]?.text, zone: properties["zone"]?.text)
            if let geometry = feature.geometry {
                let pair = geometry.coordinates
                guard pair.count >= 2, let place = place(pair[1], pair[0]) else {
                    throw failure("feature \(number + 1) of the AP map is not a point with longitude and latitude")
                }
                point.geodetic = place
            }
            points.append(point)
        }
        return APMap(points)
    }
}
