import Mobility

/// A seeded generator, so that every test sees the same data.
struct TestGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

/// Users who go from home to work and back every day, by streets of a grid, on foot or by car, seen by noisy radio.
enum SyntheticNetwork {
    static let side = 12
    static let spacing = 60.0

    static func map(positions: Bool = true) -> APMap {
        APMap(
            (0..<(side * side)).map { number in
                let (column, row) = (number % side, number / side)
                return AccessPoint(
                    name: "ap\(number)",
                    x: positions ? Double(column) * spacing : nil,
                    y: positions ? Double(row) * spacing : nil
                )
            }
        )
    }

    static func records(users: Int, days: Int, seed: UInt64) -> [RoamingRecord] {
        var generator = TestGenerator(state: seed)
        var records: [RoamingRecord] = []
        for user in 0..<users {
            let home = (Int.random(in: 0..<side, using: &generator), Int.random(in: 0..<side, using: &generator))
            let work = (Int.random(in: 0..<side, using: &generator), Int.random(in: 0..<side, using: &generator))
            let speed = user % 2 == 0 ? 1.4 : 14.0
            let columnFirst = Bool.random(using: &generator)
            for day in 0..<days {
                var time = Double.random(in: 100..<2_000, using: &generator)
                let there = way(from: home, to: work, columnFirst)
                let back = Array(there.reversed())
                var first = true
                for leg in [there, back] {
                    for ap in leg {
                        records.append(
                            RoamingRecord(
                                time: time.rounded(),
                                day: day,
                                user: "user\(user)",
                                ap: "ap\(noisy(ap, &generator))",
                                kind: first ? .start : .roam,
                                rssi: -80 + Int.random(in: -6...6, using: &generator)
                            )
                        )
                        first = false
                        time += spacing / speed * Double.random(in: 0.7..<1.3, using: &generator)
                    }
                    time += 3_000
                }
            }
        }
        return records.enumerated()
            .sorted { ($0.element.absoluteTime, $0.offset) < ($1.element.absoluteTime, $1.offset) }
            .map(\.element)
    }

    private static func way(from: (Int, Int), to: (Int, Int), _ columnFirst: Bool) -> [Int] {
        var (column, row) = from
        var list = [row * side + column]
        func columns() {
            while column != to.0 {
                column += column < to.0 ? 1 : -1
                list.append(row * side + column)
            }
        }
        func rows() {
            while row != to.1 {
                row += row < to.1 ? 1 : -1
                list.append(row * side + column)
            }
        }
        if columnFirst {
            columns()
            rows()
        } else {
            rows()
            columns()
        }
        return list
    }

    /// Now and then a neighbour's signal is the stronger one.
    private static func noisy(_ ap: Int, _ generator: inout TestGenerator) -> Int {
        guard Int.random(in: 0..<8, using: &generator) == 0 else { return ap }
        let other = ap + (Bool.random(using: &generator) ? 1 : side)
        return other < side * side ? other : ap
    }
}
