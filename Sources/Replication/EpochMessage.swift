import BackingStore

/// What the owner of an SMI and a host that holds a replica of its memory tell each other, in order, on one stream.
///
/// A round, live or cut, is `begin`, any number of `frame` and `present`, `end`; the replica answers `whole` once the
/// epoch is committed, `behind` where it could not take it in and is still at another one. Half an epoch is never
/// visible. Numbers are LEB128; the format is in docs/protocol.md. The rootfs's part of an epoch has its place between
/// `begin` and `end`.
package enum EpochMessage: Sendable, Equatable {
    /// Owner: whose memory this stream is about, and which generation of it.
    case hello(user: String, generation: UInt64, image: String)
    /// Replica: the last epoch it holds whole, 0 for none.
    case welcome(epoch: UInt64)
    /// Owner: what follows becomes this epoch; `quick` where the program is frozen meanwhile.
    case begin(epoch: UInt64, quick: Bool)
    /// Owner: pages of a process (by its number inside the sandbox), as `PageDelta` encodes them.
    case frame(process: Int32, parent: Int32?, bytes: [UInt8])
    /// Owner: every page that a process has; what else the replica holds of it is gone.
    case present(process: Int32, pages: [Range<UInt64>])
    /// Owner: pages that the process will want first, once it is restored.
    case hot(process: Int32, pages: [Range<UInt64>])
    /// Owner: pages that belong into CRIU's images, as it does not take them from a page server.
    case imaged(process: Int32, pages: [Range<UInt64>])
    /// Owner: a number beyond those of processes is the backing file of shared memory, of this shape.
    case shared(number: Int32, shape: SharedShape)
    /// Owner: the epoch has been sent; the processes that exist in it.
    case end(epoch: UInt64, processes: [Int32])
    /// Replica: the epoch is committed.
    case whole(epoch: UInt64)
    /// Replica: the epoch was not taken in; this one is what it holds.
    case behind(epoch: UInt64, cause: String)
    /// Owner: nobody needs this replica any more.
    case forget
    /// Owner: pages that the epoch lacks in their newest version; they follow as the next epoch.
    ///
    /// Replica, before `welcome`: what it lacks still.
    case late(process: Int32, pages: [Range<UInt64>])
    /// Replica: late pages that the process waits for.
    case wanted(process: Int32, pages: [Range<UInt64>])
    /// Replica: the oldest frame of late pages that it had not said this about is in.
    case took(epoch: UInt64)
}

/// A message that makes no sense: a peer of another version, or damage.
package struct EpochMessageError: Error, Sendable, CustomStringConvertible {
    /// What does not fit.
    package let description: String

    /// An error.
    package init(description: String) {
        self.description = description
    }
}

extension EpochMessage {
    /// Longest text in a message, bytes.
    private static let longestText = 4096

    fileprivate enum Kind: UInt8 {
        case hello = 1
        case welcome = 2
        case begin = 3
        case frame = 4
        case present = 5
        case end = 6
        case whole = 7
        case behind = 8
        case forget = 9
        case hot = 10
        case imaged = 11
        case late = 12
        case wanted = 13
        case took = 14
        case shared = 15
    }

    /// The message as bytes.
    package func encoded() -> [UInt8] {
        var writer = EpochWriter()
        switch self {
        case .hello(let user, let generation, let image):
            writer.start(Kind.hello.rawValue)
            writer.text(user)
            writer.number(generation)
            writer.text(image)
        case .welcome(let epoch):
            writer.start(Kind.welcome.rawValue)
            writer.number(epoch)
        case .begin(let epoch, let quick):
            writer.start(Kind.begin.rawValue)
            writer.number(epoch)
            writer.number(quick ? 1 : 0)
        case .frame(let process, let parent, let bytes):
            writer.start(Kind.frame.rawValue, reserving: bytes.count + 16)
            writer.number(UInt64(process))
            writer.number(UInt64(parent ?? 0))
            writer.bytes += bytes
        case .present(let process, let pages): writer.pages(.present, process, pages)
        case .hot(let process, let pages): writer.pages(.hot, process, pages)
        case .imaged(let process, let pages): writer.pages(.imaged, process, pages)
        case .late(let process, let pages): writer.pages(.late, process, pages)
        case .wanted(let process, let pages): writer.pages(.wanted, process, pages)
        case .took(let epoch):
            writer.start(Kind.took.rawValue)
            writer.number(epoch)
        case .shared(let number, let shape):
            writer.start(Kind.shared.rawValue)
            writer.number(UInt64(number))
            writer.number(UInt64(shape.object.kind.rawValue))
            writer.number(shape.object.inode)
            writer.number(shape.size)
            writer.text(shape.name)
        case .end(let epoch, let processes):
            writer.start(Kind.end.rawValue)
            writer.number(epoch)
            writer.number(UInt64(processes.count))
            for process in processes { writer.number(UInt64(process)) }
        case .whole(let epoch):
            writer.start(Kind.whole.rawValue)
            writer.number(epoch)
        case .behind(let epoch, let cause):
            writer.start(Kind.behind.rawValue)
            writer.number(epoch)
            writer.text(String(cause.prefix(1000)))
        case .forget:
            writer.start(Kind.forget.rawValue)
        }
        return writer.bytes
    }

    /// Decodes a message; every length is checked before it is believed.
    package init(decoding bytes: [UInt8]) throws(EpochMessageError) {
        var reader = EpochReader(bytes)
        guard let kind = Kind(rawValue: try reader.byte()) else {
            throw EpochMessageError(description: "unknown kind of epoch message \(bytes[0])")
        }
        switch kind {
        case .hello:
            self = .hello(
                user: try reader.text(limit: 32),
                generation: try reader.number(),
                image: try reader.text(limit: 128)
            )
        case .welcome: self = .welcome(epoch: try reader.number())
        case .begin: self = .begin(epoch: try reader.number(), quick: try reader.number() != 0)
        case .frame:
            let process = try reader.process()
            let parent = try reader.number()
            self = .frame(
                process: process,
                parent: parent == 0 ? nil : try EpochReader.process(parent),
                bytes: reader.rest()
            )
        case .present: self = .present(process: try reader.process(), pages: try reader.ranges())
        case .hot: self = .hot(process: try reader.process(), pages: try reader.ranges())
        case .imaged: self = .imaged(process: try reader.process(), pages: try reader.ranges())
        case .shared: self = .shared(number: try reader.process(), shape: try reader.shape())
        case .end:
            let epoch = try reader.number()
            let count = try reader.count(elementSize: 1)
            var processes: [Int32] = []
            for _ in 0..<count { processes.append(try reader.process()) }
            self = .end(epoch: epoch, processes: processes)
        case .whole: self = .whole(epoch: try reader.number())
        case .behind: self = .behind(epoch: try reader.number(), cause: try reader.text(limit: Self.longestText))
        case .forget: self = .forget
        case .late: self = .late(process: try reader.process(), pages: try reader.ranges())
        case .wanted: self = .wanted(process: try reader.process(), pages: try reader.ranges())
        case .took: self = .took(epoch: try reader.number())
        }
        try reader.finish()
    }
}

/// Appends fields to a message.
private struct EpochWriter {
    var bytes: [UInt8] = []

    mutating func start(_ kind: UInt8, reserving capacity: Int = 64) {
        bytes.reserveCapacity(capacity)
        bytes.append(kind)
    }

    mutating func number(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    mutating func pages(_ kind: EpochMessage.Kind, _ process: Int32, _ pages: [Range<UInt64>]) {
        start(kind.rawValue, reserving: pages.count * 4 + 16)
        number(UInt64(process))
        ranges(pages)
    }

    mutating func text(_ value: String) {
        number(UInt64(value.utf8.count))
        bytes += value.utf8
    }

    /// Sorted, disjoint ranges: each as its distance from the one before, and its length.
    mutating func ranges(_ ranges: [Range<UInt64>]) {
        number(UInt64(ranges.count))
        var last: UInt64 = 0
        for range in ranges {
            number(range.lowerBound - last)
            number(range.upperBound - range.lowerBound)
            last = range.upperBound
        }
    }
}

/// Takes fields from a message.
private struct EpochReader {
    /// Page numbers of 64-bit addresses end here.
    private static let pageLimit: UInt64 = 1 << 52

    private let bytes: [UInt8]
    private var next = 0

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    private static let short = EpochMessageError(description: "an epoch message ends too early")

    mutating func byte() throws(EpochMessageError) -> UInt8 {
        guard next < bytes.count else { throw Self.short }
        defer { next += 1 }
        return bytes[next]
    }

    mutating func number() throws(EpochMessageError) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            let byte = try byte()
            guard shift < 63 || byte <= 1 else { break }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
        }
        throw EpochMessageError(description: "a number in an epoch message is too long")
    }

    /// A count of elements that take at least so many bytes each.
    mutating func count(elementSize: Int) throws(EpochMessageError) -> Int {
        let count = try number()
        guard count <= UInt64((bytes.count - next) / elementSize) else { throw Self.short }
        return Int(count)
    }

    mutating func text(limit: Int) throws(EpochMessageError) -> String {
        let count = try count(elementSize: 1)
        guard count <= limit else { throw EpochMessageError(description: "a text in an epoch message is too long") }
        defer { next += count }
        guard let text = String(validating: bytes[next..<next + count], as: UTF8.self) else {
            throw EpochMessageError(description: "a text in an epoch message is not UTF-8")
        }
        return text
    }

    mutating func process() throws(EpochMessageError) -> Int32 {
        try Self.process(number())
    }

    static func process(_ number: UInt64) throws(EpochMessageError) -> Int32 {
        guard number > 0, let process = Int32(exactly: number) else {
            throw EpochMessageError(description: "\(number) is not the number of a process")
        }
        return process
    }

    mutating func ranges() throws(EpochMessageError) -> [Range<UInt64>] {
        let count = try count(elementSize: 2)
        var ranges: [Range<UInt64>] = []
        ranges.reserveCapacity(count)
        var last: UInt64 = 0
        for _ in 0..<count {
            let (start, startOver) = last.addingReportingOverflow(try number())
            let (end, endOver) = start.addingReportingOverflow(try number())
            guard !startOver, !endOver, start < end, end <= Self.pageLimit else {
                throw EpochMessageError(description: "a range of pages in an epoch message makes no sense")
            }
            ranges.append(start..<end)
            last = end
        }
        return ranges
    }

    mutating func shape() throws(EpochMessageError) -> SharedShape {
        guard let kind = UInt8(exactly: try number()).flatMap({ SharedObject.Kind(rawValue: $0) }) else {
            throw EpochMessageError(description: "an unknown kind of shared memory in an epoch message")
        }
        let object = SharedObject(kind: kind, inode: try number())
        return SharedShape(object: object, size: try number(), name: try text(limit: 1024))
    }

    mutating func rest() -> [UInt8] {
        defer { next = bytes.count }
        return Array(bytes[next...])
    }

    func finish() throws(EpochMessageError) {
        guard next == bytes.count else {
            throw EpochMessageError(description: "an epoch message is longer than what it says")
        }
    }
}
