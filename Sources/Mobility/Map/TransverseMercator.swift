#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Foundation
#endif

/// A position on the WGS84 ellipsoid, in degrees.
public struct GeodeticPosition: Sendable, Hashable, Codable {
    /// Degrees north.
    public var latitude: Double
    /// Degrees east.
    public var longitude: Double

    /// Makes a position from degrees.
    public init(latitude: Double, longitude: Double) {
        self.latitude = latitude
        self.longitude = longitude
    }
}

/// A local transverse Mercator projection of the WGS84 ellipsoid, scale 1 on its central meridian.
///
/// Krüger's series to the third order of the third flattening n (as in EPSG guidance note 7-2, coordinate operation
/// 9807): the series itself is good to less than a millimetre within hundreds of kilometres of the origin. Distances in
/// the plane are longer than on the ground by (x / R)² / 2, x being metres east of the central meridian: 12 parts per
/// million at 31 km.
public struct TransverseMercator: Sendable, Hashable {
    /// Where x and y are zero.
    public let origin: GeodeticPosition

    private static let semiMajorAxis = 6_378_137.0
    private static let flattening = 1 / 298.257223563
    private static let n = flattening / (2 - flattening)
    private static let eccentricity = (flattening * (2 - flattening)).squareRoot()
    /// Radius of the rectifying sphere.
    private static let radius = semiMajorAxis / (1 + n) * (1 + n * n / 4 + n * n * n * n / 64)
    private static let alpha = (
        n / 2 - 2 * n * n / 3 + 5 * n * n * n / 16,
        13 * n * n / 48 - 3 * n * n * n / 5,
        61 * n * n * n / 240
    )

    private let northingOfOrigin: Double

    /// A projection centred on `origin`.
    public init(origin: GeodeticPosition) {
        self.origin = origin
        northingOfOrigin = Self.raw(origin, meridian: origin.longitude).y
    }

    /// Metres east and north of the origin.
    public func project(_ position: GeodeticPosition) -> (x: Double, y: Double) {
        let raw = Self.raw(position, meridian: origin.longitude)
        return (raw.x, raw.y - northingOfOrigin)
    }

    private static func raw(_ position: GeodeticPosition, meridian: Double) -> (x: Double, y: Double) {
        let phi = position.latitude * .pi / 180
        var degrees = position.longitude - meridian
        if degrees > 180 { degrees -= 360 }
        if degrees < -180 { degrees += 360 }
        let lambda = degrees * .pi / 180
        let e = eccentricity
        let sine = sin(phi)
        let t = sinh(atanh(sine) - e * atanh(e * sine))
        let xi = atan2(t, cos(lambda))
        let eta = atanh(sin(lambda) / (1 + t * t).squareRoot())
        var x = eta
        var y = xi
        for (order, factor) in [(2.0, alpha.0), (4.0, alpha.1), (6.0, alpha.2)] {
            x += factor * cos(order * xi) * sinh(order * eta)
            y += factor * sin(order * xi) * cosh(order * eta)
        }
        return (radius * x, radius * y)
    }
}
