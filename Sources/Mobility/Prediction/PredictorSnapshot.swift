/// Writes numbers in little-endian order.
struct SnapshotWriter {
    private(set) var bytes: [UInt8] = []

    mutating func put<Number: FixedWidthInteger>(_ value: Number) {
        var rest = value.littleEndian
        withUnsafeBytes(of: &rest) { bytes.append(contentsOf: $0) }
    }

    mutating func put(_ value: Float) { put(value.bitPattern) }
    mutating func put(_ value: Double) { put(value.bitPattern) }

    mutating func put(_ text: String) {
        put(UInt16(clamping: text.utf8.count))
        bytes.append(contentsOf: text.utf8.prefix(Int(UInt16.max)))
    }

    mutating func put(_ values: [Float]) {
        put(UInt32(values.count))
        for value in values { put(value) }
    }
}

/// Reads what `SnapshotWriter` wrote, and refuses what it cannot have written.
struct SnapshotReader {
    let bytes: [UInt8]
    private(set) var place = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    static var damaged: MobilityError {
        MobilityError(
            .snapshot,
            cause: "the predictor's snapshot is damaged",
            remedy: "delete it: the predictor then starts from what it shipped with and learns anew"
        )
    }

    mutating func take<Number: FixedWidthInteger>(_ type: Number.Type = Number.self) throws(MobilityError) -> Number {
        let size = MemoryLayout<Number>.size
        guard bytes.count - place >= size else { throw Self.damaged }
        var value: Number = 0
        for index in 0..<size { value |= Number(truncatingIfNeeded: bytes[place + index]) << Number(8 * index) }
        place += size
        return value
    }

    mutating func float() throws(MobilityError) -> Float { Float(bitPattern: try take(UInt32.self)) }
    mutating func double() throws(MobilityError) -> Double { Double(bitPattern: try take(UInt64.self)) }

    /// A count of things of at least `size` bytes each, so that it cannot ask for more memory than there are bytes.
    mutating func count(of size: Int, limit: Int = .max) throws(MobilityError) -> Int {
        let count = Int(try take(UInt32.self))
        guard count <= limit, count * size <= bytes.count - place else { throw Self.damaged }
        return count
    }

    mutating func text() throws(MobilityError) -> String {
        let count = Int(try take(UInt16.self))
        guard bytes.count - place >= count else { throw Self.damaged }
        defer { place += count }
        return String(decoding: bytes[place..<(place + count)], as: UTF8.self)
    }

    mutating func floats(_ expected: Int) throws(MobilityError) -> [Float] {
        guard try count(of: 4) == expected else { throw Self.damaged }
        var values: [Float] = []
        values.reserveCapacity(expected)
        for _ in 0..<expected {
            let value = try float()
            guard value.isFinite else { throw Self.damaged }
            values.append(value)
        }
        return values
    }
}

extension Predictor {
    private static let magic: [UInt8] = Array("SMIPRED1".utf8)
    /// Rises with every change of what follows or of what the numbers mean.
    private static let version: UInt32 = 1

    /// Everything learned: users, passes and weights; not the map, and not predictions that wait for their outcome.
    ///
    /// Layout: `SMIPRED1`, version, FNV-1a of the rest, the rest; little-endian.
    public func snapshot() -> [UInt8] {
        var body = SnapshotWriter()
        core.write(&body)
        var all = SnapshotWriter()
        all.put(Self.version)
        all.put(Self.hash(body.bytes[...]))
        return Self.magic + all.bytes + body.bytes
    }

    /// A predictor that goes on from a snapshot, on a map that may have changed since.
    ///
    /// - Throws: `MobilityError` (`.snapshot`) where the bytes are damaged or of another version.
    public convenience init(
        snapshot: [UInt8],
        map: APMap,
        configuration: Configuration = .init()
    ) throws(MobilityError) {
        self.init(map: map, configuration: configuration)
        guard snapshot.count > 20, Array(snapshot.prefix(8)) == Self.magic else { throw SnapshotReader.damaged }
        var header = SnapshotReader(Array(snapshot[8..<20]))
        guard try header.take(UInt32.self) == Self.version else {
            throw MobilityError(
                .snapshot,
                cause: "the predictor's snapshot is of another version",
                remedy: "delete it: the predictor then starts from what it shipped with and learns anew"
            )
        }
        guard try header.take(UInt64.self) == Self.hash(snapshot[20...]) else { throw SnapshotReader.damaged }
        var body = SnapshotReader(Array(snapshot[20...]))
        try core.read(&body)
    }

    private static func hash(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return hash
    }
}

extension PredictorCore {
    func write(_ out: inout SnapshotWriter) {
        out.put(UInt32(index.count))
        for name in index.names { out.put(name) }
        for model in models.all { out.put(model.parameters) }
        out.put(geometry.parameters)
        out.put(sharpness)
        out.put(calibration.parameters)
        for ap in 0..<index.count { memory.write(ap, &out) }
        let order = directory.bySight
        out.put(UInt32(order.count))
        for number in order {
            out.put(directory.names[number])
            users[number].write(&out)
        }
    }

    mutating func read(_ input: inout SnapshotReader) throws(MobilityError) {
        let count = try input.count(of: 2, limit: PackedVisit.apLimit)
        var renumber: [Int32] = []
        for _ in 0..<count { renumber.append(apNumber(try input.text())) }
        for model in models.all { model.parameters = try input.floats(model.parameterCount) }
        geometry.parameters = try input.floats(geometry.parameters.count)
        sharpness = try input.float()
        guard sharpness > 0.1, sharpness < 10 else { throw SnapshotReader.damaged }
        calibration.parameters = try input.floats(calibration.parameters.count)
        for ap in 0..<count { try memory.read(renumber[ap], renumber, &input) }
        let people = try input.count(of: 2)
        for _ in 0..<people {
            let number = userNumber(try input.text())
            try users[number].read(renumber, limit: configuration.historyLimit, &input)
        }
    }
}

extension PassMemory {
    func write(_ ap: Int, _ out: inout SnapshotWriter) {
        let list = oldestFirst(ap)
        out.put(UInt32(list.count))
        for pass in list {
            for step in 0..<3 { out.put(pass.previous[step]) }
            for step in 0..<Pass.depth {
                out.put(pass.following[step])
                out.put(pass.reached[step])
            }
            for lane in 0..<4 { out.put(pass.timed[lane]) }
            for value in [pass.approach.x, pass.approach.y, pass.logPace, pass.logDwell, pass.rssi] { out.put(value) }
        }
    }

    mutating func read(_ ap: Int32, _ renumber: [Int32], _ input: inout SnapshotReader) throws(MobilityError) {
        func number(_ old: Int32) throws(MobilityError) -> Int32 {
            if old == -1 { return -1 }
            guard renumber.indices.contains(Int(old)) else { throw SnapshotReader.damaged }
            return renumber[Int(old)]
        }
        for _ in 0..<(try input.count(of: 84)) {
            var pass = Pass()
            for step in 0..<3 { pass.previous[step] = try number(try input.take()) }
            for step in 0..<Pass.depth {
                pass.following[step] = try number(try input.take())
                pass.reached[step] = try input.take()
            }
            guard pass.following[0] >= 0 else { throw SnapshotReader.damaged }
            for lane in 0..<4 { pass.timed[lane] = try input.float() }
            pass.approach = [try input.float(), try input.float()]
            pass.logPace = try input.float()
            pass.logDwell = try input.float()
            pass.rssi = try input.float()
            guard pass.approach.x.isFinite, pass.approach.y.isFinite, pass.timed.sum().isFinite, pass.logDwell.isFinite,
                pass.rssi.isFinite,
                !pass.logPace.isInfinite
            else { throw SnapshotReader.damaged }
            _ = add(pass, at: ap)
        }
    }
}

extension UserState {
    func write(_ out: inout SnapshotWriter) {
        out.put(lastTime)
        out.put(flaps)
        out.put(UInt32(recentUsed))
        for step in 0..<recentUsed {
            out.put(recent[step].ap)
            out.put(recent[step].rssi)
            out.put(recent[step].time)
        }
        out.put(UInt32(history.count))
        for visit in history { out.put(visit) }
    }

    mutating func read(_ renumber: [Int32], limit: Int, _ input: inout SnapshotReader) throws(MobilityError) {
        func number(_ old: Int32) throws(MobilityError) -> Int32 {
            guard renumber.indices.contains(Int(old)) else { throw SnapshotReader.damaged }
            return renumber[Int(old)]
        }
        lastTime = try input.double()
        flaps = try input.take()
        recentUsed = try input.count(of: 16, limit: Self.recentCount)
        for step in 0..<recentUsed {
            recent[step] = Visit(ap: try number(try input.take()), rssi: try input.float(), time: try input.double())
            guard recent[step].rssi.isFinite, recent[step].time.isFinite else { throw SnapshotReader.damaged }
        }
        let count = try input.count(of: 4)
        history.removeAll()
        for _ in 0..<count {
            let bits = try input.take(UInt32.self)
            let ap = try number(Int32(bits & 0xf_ffff))
            history.append(bits & ~0xf_ffff | UInt32(ap))
        }
        if history.count > limit { history.removeFirst(history.count - limit) }
    }
}
