import BackingStore
import Testing

@testable import Replication

@Suite("Epoch messages")
struct EpochMessageTests {
    static let samples: [EpochMessage] = [
        .hello(user: "alice", generation: 7, image: "sha256:00"), .welcome(epoch: 0), .welcome(epoch: .max),
        .begin(epoch: 300, quick: true), .frame(process: 1, parent: nil, bytes: [1, 2, 3]),
        .frame(process: 70000, parent: 12, bytes: []), .present(process: 3, pages: [1..<2, 9..<1 << 40]),
        .hot(process: 3, pages: []), .imaged(process: 4, pages: [7..<9]), .end(epoch: 300, processes: [1, 2, 99999]),
        .whole(epoch: 300), .late(process: 9, pages: [1..<2, 5..<700]), .wanted(process: 9, pages: [5..<6]),
        .took(epoch: 301),
        .shared(
            number: 1 << 24,
            shape: SharedShape(object: SharedObject(kind: .segment, inode: 0), size: 1 << 33, name: "a b")
        ),
        .behind(epoch: 299, cause: "another version"), .forget,
    ]

    @Test("come out as they went in", arguments: samples)
    func roundTrip(_ message: EpochMessage) throws {
        #expect(try EpochMessage(decoding: message.encoded()) == message)
    }

    @Test("that are cut short or too long are refused, never read past their end", arguments: samples)
    func damaged(_ message: EpochMessage) throws {
        let bytes = message.encoded()
        for length in 0..<bytes.count {
            // A frame's bytes end where the message ends; the store's own checksums find what is missing.
            if case .frame = message, length >= 3 { continue }
            #expect(throws: EpochMessageError.self) { try EpochMessage(decoding: Array(bytes[..<length])) }
        }
        if case .frame = message { return }
        #expect(throws: EpochMessageError.self) { try EpochMessage(decoding: bytes + [0]) }
    }

    @Test("of random bytes are refused or are some message")
    func garbage() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...40)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            if let message = try? EpochMessage(decoding: bytes) { _ = message.encoded() }
        }
    }

    @Test(
        "with ranges that overlap, are empty or leave the address space are refused",
        arguments: [[5, 1, 1, 1, 0] as [UInt8], [5, 1, 1, 0, 255, 255, 255, 255, 255, 255, 255, 127]]
    )
    func badRanges(_ bytes: [UInt8]) {
        #expect(throws: EpochMessageError.self) { try EpochMessage(decoding: bytes) }
    }
}
