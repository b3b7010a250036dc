import ArgumentParser
import Foundation
import Mobility
import Orchestrator

/// `smirun ap import FILE`.
struct AccessPointImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Add access points and say which hosts serve them.",
        discussion: """
            CSV with a header: ap, and host, zone, x_m and y_m (metres) or lat and lon (WGS84) where there are any; or a
            GeoJSON FeatureCollection of points with the properties ap, host and zone. An access point without a host is
            served by the host of its own name.
            """
    )

    @Argument var file: String
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        guard let data = FileManager.default.contents(atPath: file) else {
            throw OrchestratorError(.badArgument, cause: "\(file) cannot be read", remedy: "check the path")
        }
        let points = try Self.points(Array(data), name: file)
        _ = try await daemon.call(.importAccessPoints, points, as: Nothing.self)
        print("\(points.count) access points imported")
    }

    /// Reads a map; positions on the earth stay degrees, so that all maps of a cluster are projected together.
    static func points(_ bytes: [UInt8], name: String) throws(MobilityError) -> [AccessPointView] {
        let map: APMap
        do {
            map = try APMapReader.read(bytes)
        } catch {
            throw MobilityError(
                error.code,
                cause: "\(name): \(error.cause)",
                remedy: "\(error.remedy); nothing was imported"
            )
        }
        return map.accessPoints.map { point in
            let isGeodetic = point.geodetic != nil
            return AccessPointView(
                ap: point.name,
                host: point.host ?? point.name,
                x: isGeodetic ? nil : point.x,
                y: isGeodetic ? nil : point.y,
                lat: point.geodetic?.latitude,
                lon: point.geodetic?.longitude,
                zone: point.zone
            )
        }
    }
}
