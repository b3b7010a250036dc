import Foundation
import Testing

@testable import Mobility

@Suite struct MapTests {
    @Test func projectsAsTheEllipsoidMeasures() {
        // Vincenty's distances on WGS84 from 52 N 13 E, computed with an independent program.
        let projection = TransverseMercator(origin: .init(latitude: 52, longitude: 13))
        let north = projection.project(.init(latitude: 52.3, longitude: 13))
        #expect(abs(north.x) < 1e-6)
        #expect(abs(north.y - meridianArc(52, 52.3)) < 0.01)
        let east = projection.project(.init(latitude: 52, longitude: 13.3))
        // The radius of curvature in the prime vertical times the difference of longitude.
        let latitude = 52 * Double.pi / 180
        let radius = 6_378_137 / (1 - 0.00669437999014 * sin(latitude) * sin(latitude)).squareRoot()
        #expect(abs(east.x - radius * cos(latitude) * 0.3 * .pi / 180) < 0.5)
        let origin = projection.project(.init(latitude: 52, longitude: 13))
        #expect(abs(origin.x) < 1e-9 && abs(origin.y) < 1e-9)
    }

    /// The length of a meridian arc by numeric integration.
    private func meridianArc(_ from: Double, _ to: Double) -> Double {
        let e2 = 0.00669437999014
        let steps = 20_000
        let (a, b) = (from * .pi / 180, to * .pi / 180)
        return (0..<steps).reduce(0) { sum, step in
            let phi = a + (b - a) * (Double(step) + 0.5) / Double(steps)
            return sum + 6_378_137 * (1 - e2) / pow(1 - e2 * sin(phi) * sin(phi), 1.5) * (b - a) / Double(steps)
        }
    }

    @Test func readsMetresHostsAndZones() throws {
        let map = try APMapReader.read(Array("ap,x_m,y_m,host,zone\na,0,0,h1,west\r\nb,50.5,-3,,east\n".utf8))
        #expect(map["b"]?.x == 50.5)
        #expect(map.host(of: "a") == "h1")
        #expect(map.host(of: "b") == "b")
        #expect(map.host(of: "unknown") == "unknown")
        #expect(map.zones == ["east", "west"])
        #expect(map.accessPoints(inZone: "east").map(\.name) == ["b"])
    }

    @Test func readsDegreesAcrossTheDateLine() throws {
        let map = try APMapReader.read(Array("ap,lat,lon\na,0,179.9995\nb,0,-179.9995\n".utf8))
        let distance = try #require(map["b"]?.x) - #require(map["a"]?.x)
        #expect(abs(distance - 111.32) < 0.1)
    }

    @Test func readsGeoJSON() throws {
        let text = """
            {"type":"FeatureCollection","features":[
            {"type":"Feature","geometry":{"type":"Point","coordinates":[13.0,52.0]},"properties":{"ap":7,"host":"h"}},
            {"type":"Feature","geometry":{"type":"Point","coordinates":[13.001,52.0]},"properties":{"name":"b"}}]}
            """
        let map = try APMapReader.read(Array(text.utf8))
        #expect(map["7"]?.host == "h")
        let distance = try #require(map["b"]?.x) - #require(map["7"]?.x)
        #expect(abs(distance - 68.68) < 0.1)
    }

    @Test(arguments: [
        "", "x,y\n1,2\n", "ap,x_m,y_m\na,1,nope\n", "ap,lat,lon\na,91,0\n", "{\"features\":3}", "ap,x_m\n,1\n",
    ])
    func refusesWhatIsNoMap(_ text: String) {
        #expect(throws: MobilityError.self) { try APMapReader.read(Array(text.utf8)) }
    }

    @Test func findsTheSameNeighboursAsComparingAllPairs() {
        var generator = TestGenerator(state: 3)
        let points = (0..<300).map { number in
            AccessPoint(
                name: "\(number)",
                x: Double.random(in: 0..<2_000, using: &generator),
                y: Double.random(in: 0..<300, using: &generator) * (number % 7 == 0 ? 40 : 1)
            )
        }
        let index = AccessPointIndex(APMap(points))
        for number in stride(from: 0, to: 300, by: 17) {
            let here = index.positions[number]
            func distance(_ other: Int) -> Float {
                let delta = index.positions[other] - here
                return (delta * delta).sum()
            }
            let all = (0..<300).filter { $0 != number }.sorted { distance($0) < distance($1) }
            let expected = Set(all.prefix(AccessPointIndex.neighbourCount))
            #expect(Set(index.neighbours[number].map(Int.init)) == expected)
        }
    }

    @Test(
        "names the line at fault as an editor counts it",
        arguments: [
            ("ap,x_m,y_m\n\na,1,2\nb,1\n", "line 4"), ("ap,x_m,y_m\r\na,1,2\r\nb,one,2\r\n", "line 3"),
            ("ap,lat,lon\na,91,0\n", "line 2"), ("ap,x_m,y_m\na,1,2,3\n", "line 2"), ("ap,lat,lon\n\n,1,2\n", "line 3"),
        ]
    )
    func linesAtFault(_ text: String, _ line: String) {
        do {
            _ = try APMapReader.read(Array(text.utf8))
            Issue.record("\(text) was taken")
        } catch {
            #expect(error.cause.contains(line), "\(error.cause)")
        }
    }

    @Test("takes access points without a place, and beside those with one")
    func withoutPlace() throws {
        let map = try APMapReader.read(Array("ap,x_m,y_m,host\na,,,h1\nb,1,2,h2\nc\n".utf8))
        #expect(map.accessPoints.map(\.name) == ["a", "b", "c"])
        #expect(map["a"]?.x == nil && map["b"]?.x == 1 && map["c"]?.host == nil)
    }
}
