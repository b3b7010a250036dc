/// Where a pass is kept, to complete it when the user goes on.
struct PassHandle {
    var place: Int32 = -1
    var serial: UInt32 = 0
}

/// Somebody's way through an access point: where from, how fast, where to.
struct Pass {
    /// Steps ahead that are kept.
    static let depth = 6
    /// The three access points before, newest first; -1 where there was none.
    var previous: SIMD4<Int32> = [-1, -1, -1, -1]
    /// The next access points, `depth` of them; -1 where not known (yet).
    var following: SIMD8<Int32> = .init(repeating: -1)
    /// Tenths of a second from the association until each of `following`.
    var reached: SIMD8<UInt16> = .zero
    /// Weighted centre of the previous positions, relative to the access point, in units of its spacing.
    var approach: SIMD2<Float> = .zero
    /// As `Track.timed`.
    var timed: SIMD4<Float> = .zero
    var logPace: Float = 0
    var logDwell: Float = 0
    var rssi: Float = 0
    var serial: UInt32 = 0

    static func tenths(_ seconds: Float) -> UInt16 { UInt16(min(max(seconds * 10, 0), 65_000)) }
}

/// The last passes through each access point, by anybody.
struct PassMemory {
    let capacity: Int
    private(set) var passes: [[Pass]] = []
    private var next: [Int32] = []
    private var serial: UInt32 = 0

    init(capacity: Int) { self.capacity = capacity }

    mutating func reserve(_ count: Int) {
        while passes.count < count {
            passes.append([])
            next.append(0)
        }
    }

    /// Keeps a pass, in the place of the oldest one where the access point has its share.
    mutating func add(_ pass: Pass, at ap: Int32) -> PassHandle {
        serial &+= 1
        var kept = pass
        kept.serial = serial
        let index = Int(ap)
        let place = next[index]
        if Int(place) < passes[index].count {
            passes[index][Int(place)] = kept
        } else {
            passes[index].append(kept)
        }
        next[index] = Int(place) + 1 == capacity ? 0 : place + 1
        return PassHandle(place: place, serial: serial)
    }

    /// The passes through an access point in the order in which they were added.
    func oldestFirst(_ ap: Int) -> [Pass] {
        let list = passes[ap]
        return list.count < capacity ? list : Array(list[Int(next[ap])...] + list[..<Int(next[ap])])
    }

    /// Completes a pass with an access point reached `step` steps later.
    mutating func extend(_ handle: PassHandle, at ap: Int32, step: Int, to reached: Int32, after seconds: Float) {
        guard handle.place >= 0, passes[Int(ap)][Int(handle.place)].serial == handle.serial else { return }
        passes[Int(ap)][Int(handle.place)].following[step] = reached
        passes[Int(ap)][Int(handle.place)].reached[step] = Pass.tenths(seconds)
    }
}
