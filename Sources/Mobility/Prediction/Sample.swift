/// Places in the memory that one prediction's evidence takes, in floats.
enum SampleLayout {
    static let candidateLimit = 32
    static let ownCount = 27
    static let sharedCount = 20
    static let dwellCount = 20
    static let stayCount = 12
    static let horizonLimit = 40
    static let horizonOwnCount = 18
    static let horizonSharedCount = 10
    /// Lead times whose evidence is kept to learn from; more can be asked for.
    static let leadLimit = 2

    static let own = 0
    static let shared = own + candidateLimit * ownCount
    static let dwell = shared + sharedCount
    static let stay = dwell + candidateLimit * dwellCount
    static let horizons = stay + stayCount
    static let horizonOwn = 0
    static let horizonShared = horizonOwn + horizonLimit * horizonOwnCount
    static let horizonSize = horizonShared + horizonSharedCount
    static let size = (horizons + leadLimit * horizonSize + 15) / 16 * 16

    /// The same for whole numbers.
    static let candidates = 0
    static let buckets = candidates + candidateLimit
    static let horizonCandidates = buckets + candidateLimit
    static let integers = horizonCandidates + leadLimit * horizonLimit
}

/// Evidence of predictions that wait for their outcome: one block of memory, reused in turn.
final class SamplePool {
    struct Header {
        var serial: UInt32 = 0
        var count = 0
        var leads = 0
        /// The most probable candidate, and its probability before it was corrected.
        var first = 0
        var said: Float = 0
        var lead: InlineArray<2, Float> = .init(repeating: 0)
        var horizonCount: InlineArray<2, Int> = .init(repeating: 0)
    }

    let capacity: Int
    // SAFETY: `capacity` blocks each, owned by this object and freed by deinit; places come from `next` or from a
    // handle whose serial matches, so that they are below `capacity`.
    private let floats: UnsafeMutablePointer<Float>
    private let integers: UnsafeMutablePointer<Int32>
    let headers: UnsafeMutablePointer<Header>
    private var turn = 0
    private var serial: UInt32 = 0

    init(capacity: Int) {
        self.capacity = capacity
        floats = .allocate(capacity: capacity * SampleLayout.size)
        floats.initialize(repeating: 0, count: capacity * SampleLayout.size)
        integers = .allocate(capacity: capacity * SampleLayout.integers)
        integers.initialize(repeating: -1, count: capacity * SampleLayout.integers)
        headers = .allocate(capacity: capacity)
        headers.initialize(repeating: Header(), count: capacity)
    }

    deinit {
        floats.deallocate()
        integers.deallocate()
        headers.deallocate()
    }

    func values(_ place: Int) -> UnsafeMutablePointer<Float> { floats + place * SampleLayout.size }
    func numbers(_ place: Int) -> UnsafeMutablePointer<Int32> { integers + place * SampleLayout.integers }

    /// The block that was reused least recently, under a new serial.
    func take() -> PassHandle {
        turn = turn + 1 == capacity ? 0 : turn + 1
        serial &+= 1
        headers[turn] = Header()
        headers[turn].serial = serial
        return PassHandle(place: Int32(turn), serial: serial)
    }

    /// Place of a prediction that still waits.
    func waiting(_ handle: PassHandle) -> Int? {
        guard handle.place >= 0, headers[Int(handle.place)].serial == handle.serial else { return nil }
        return Int(handle.place)
    }
}

/// Sums while the evidence of one prediction is gathered; nothing in it outlives the prediction.
final class Scratch {
    struct Vote {
        var place: Int32
        var weight: Float
        var exact: Float
    }

    // SAFETY: as long as the limits of SampleLayout and `voteLimit`, which every writer checks; freed by deinit.
    let pop: UnsafeMutablePointer<SIMD8<Float>>
    let own: UnsafeMutablePointer<SIMD8<Float>>
    let probability: UnsafeMutablePointer<Float>
    let logs: UnsafeMutablePointer<Float>
    /// Logarithms of the seconds per candidate: the median, the 10th and the 90th percentile, `width` apart.
    let quantiles: UnsafeMutablePointer<Float>
    /// The seconds that each dwell code of a `PackedVisit` stands for.
    let dwellSeconds: UnsafeMutablePointer<Float>
    let horizonSums: UnsafeMutablePointer<SIMD4<Float>>
    let horizonStep: UnsafeMutablePointer<SIMD2<Float>>
    let popVotes: UnsafeMutablePointer<Vote>
    let ownVotes: UnsafeMutablePointer<Vote>
    let voteLimit: Int
    /// Per candidate and in total: weight and weighted sum of the logarithm of the seconds, by everybody's passes (x, y)
    /// and the user's (z, w).
    let dwell: UnsafeMutablePointer<SIMD4<Float>>

    /// Candidates that any list has room for.
    static let width = 64

    init(voteLimit: Int) {
        self.voteLimit = voteLimit
        let limit = SampleLayout.candidateLimit
        pop = Self.make(.zero, limit)
        own = Self.make(.zero, limit)
        dwell = Self.make(.zero, limit)
        probability = Self.make(0, Self.width)
        logs = Self.make(1, Self.width * 16)
        quantiles = Self.make(0, Self.width * 3)
        dwellSeconds = Self.make(0, 64)
        for code in 0..<64 { dwellSeconds[code] = FastMath.exp((Float(code) - 1.5) / 9) }
        horizonSums = Self.make(.zero, SampleLayout.horizonLimit)
        horizonStep = Self.make(.zero, SampleLayout.horizonLimit)
        popVotes = Self.make(Vote(place: 0, weight: 0, exact: 0), voteLimit)
        ownVotes = Self.make(Vote(place: 0, weight: 0, exact: 0), voteLimit)
    }

    deinit {
        pop.deallocate()
        own.deallocate()
        dwell.deallocate()
        probability.deallocate()
        logs.deallocate()
        quantiles.deallocate()
        dwellSeconds.deallocate()
        horizonSums.deallocate()
        horizonStep.deallocate()
        popVotes.deallocate()
        ownVotes.deallocate()
    }

    private static func make<Element: BitwiseCopyable>(
        _ value: Element,
        _ count: Int
    ) -> UnsafeMutablePointer<Element> {
        let memory = UnsafeMutablePointer<Element>.allocate(capacity: count)
        memory.initialize(repeating: value, count: count)
        return memory
    }
}

/// Which place of the list at hand an access point has; -1 for none, and for all between predictions.
final class SlotTable {
    // SAFETY: `capacity` entries, owned by this object; access points are below the count last given to `reserve`.
    private(set) var entries: UnsafeMutablePointer<Int16>
    private var capacity = 1024

    init() {
        entries = .allocate(capacity: capacity)
        entries.initialize(repeating: -1, count: capacity)
    }

    deinit { entries.deallocate() }

    /// Makes room for `count` access points; between predictions only.
    func reserve(_ count: Int) {
        guard count > capacity else { return }
        entries.deallocate()
        capacity = max(count, capacity * 2)
        entries = .allocate(capacity: capacity)
        entries.initialize(repeating: -1, count: capacity)
    }
}
