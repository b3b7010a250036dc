/// The access points as the predictor sees them: small numbers, positions in metres, nearest neighbours.
///
/// Access points that the map does not have are numbered when they are first seen, without a position.
struct AccessPointIndex {
    /// How many nearest neighbours of an access point are kept.
    static let neighbourCount = 16

    private(set) var names: [String] = []
    private var indexByName: [String: Int32] = [:]
    /// Metres; NaN where not known.
    private(set) var positions: [SIMD2<Float>] = []
    /// Nearest neighbours of each access point, nearest first; empty where the position is not known.
    private(set) var neighbours: [[Int32]] = []
    /// Local spacing in metres: mean distance of the six nearest neighbours; `defaultSpacing` where not known.
    private(set) var spacing: [Float] = []
    /// Median of the spacings, or 60 m.
    private(set) var defaultSpacing: Float = 60

    init(_ map: APMap) {
        for point in map.accessPoints {
            let place: SIMD2<Float> =
                if let x = point.x, let y = point.y, x.isFinite, y.isFinite {
                    [Float(x), Float(y)]
                } else {
                    [.nan, .nan]
                }
            append(point.name, place)
        }
        findNeighbours()
    }

    var count: Int { names.count }

    func lookUp(_ name: String) -> Int32? { indexByName[name] }

    /// The number of an access point, which is given one if it has none.
    mutating func number(of name: String) -> Int32 {
        if let known = indexByName[name] { return known }
        append(name, [.nan, .nan])
        neighbours.append([])
        spacing.append(defaultSpacing)
        return Int32(names.count - 1)
    }

    /// Whether the number was given when this index was made.
    func knows(_ ap: Int32) -> Bool { positions.indices.contains(Int(ap)) }

    /// The position in metres, NaN where it is not known.
    func position(_ ap: Int32) -> SIMD2<Float> { knows(ap) ? positions[Int(ap)] : [.nan, .nan] }

    private mutating func append(_ name: String, _ place: SIMD2<Float>) {
        indexByName[name] = Int32(names.count)
        names.append(name)
        positions.append(place)
    }

    /// Fills `neighbours` and `spacing` with the help of a grid of cells of about four access points each.
    private mutating func findNeighbours() {
        let placed = positions.indices.filter { !positions[$0].x.isNaN }
        neighbours = Array(repeating: [], count: names.count)
        spacing = Array(repeating: defaultSpacing, count: names.count)
        guard placed.count > 1 else { return }
        let grid = CellGrid(positions: positions, placed: placed)
        for index in placed {
            let near = grid.nearest(to: index, count: Self.neighbourCount, positions: positions)
            neighbours[index] = near.map { Int32($0.index) }
            let closest = near.prefix(6).filter { $0.distance > 0.01 }
            if !closest.isEmpty {
                spacing[index] = closest.reduce(0) { $0 + $1.distance } / Float(closest.count)
            }
        }
        defaultSpacing = placed.map { spacing[$0] }.sorted()[placed.count / 2]
    }
}

/// Points of the plane in square cells, to find nearest neighbours without comparing all pairs.
private struct CellGrid {
    private struct Cell: Hashable {
        var column: Int32
        var row: Int32
    }

    private let side: Float
    private let origin: SIMD2<Float>
    private let reach: Int32
    private var members: [Cell: [Int]] = [:]

    init(positions: [SIMD2<Float>], placed: [Int]) {
        var low = positions[placed[0]]
        var high = low
        for index in placed {
            low = pointwiseMin(low, positions[index])
            high = pointwiseMax(high, positions[index])
        }
        let extent = high - low
        let area = max(extent.x, 1) * max(extent.y, 1)
        side = max((area / Float(placed.count) * 4).squareRoot(), max(extent.x, extent.y) / 10_000, 0.1)
        origin = low
        reach = Int32(max(extent.x, extent.y) / side) + 1
        for index in placed {
            members[cell(of: positions[index]), default: []].append(index)
        }
    }

    private func cell(of place: SIMD2<Float>) -> Cell {
        let scaled = (place - origin) / side
        return Cell(column: Int32(scaled.x), row: Int32(scaled.y))
    }

    func nearest(to index: Int, count: Int, positions: [SIMD2<Float>]) -> [(index: Int, distance: Float)] {
        let centre = cell(of: positions[index])
        var found: [(index: Int, distance: Float)] = []
        var ring: Int32 = 0
        while ring <= reach {
            visit(ring: ring, around: centre) { other in
                guard other != index else { return }
                let delta = positions[other] - positions[index]
                found.append((other, (delta * delta).sum().squareRoot()))
            }
            let safe = Float(ring) * side
            if found.lazy.filter({ $0.distance <= safe }).count >= count { break }
            ring += 1
        }
        found.sort { ($0.distance, $0.index) < ($1.distance, $1.index) }
        return Array(found.prefix(count))
    }

    private func visit(ring: Int32, around centre: Cell, _ body: (Int) -> Void) {
        for column in (centre.column - ring)...(centre.column + ring) {
            let edge = abs(column - centre.column) == ring
            let rows = stride(
                from: centre.row - ring,
                through: centre.row + ring,
                by: edge || ring == 0 ? 1 : Int(2 * ring)
            )
            for row in rows {
                for member in members[Cell(column: column, row: row)] ?? [] { body(member) }
            }
        }
    }
}
