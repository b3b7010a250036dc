import Testing

@testable import Orchestrator

@Suite("A bounded channel", .timeLimit(.minutes(5)))
struct BoundedChannelTests {
    @Test("delivers everything in order, whatever its size", arguments: [1, 2, 7, 1000])
    func order(limit: Int) async throws {
        let channel = BoundedChannel<Int>(limit: limit)
        let sending = Task {
            for number in 0..<500 { try await channel.send(number) }
            channel.finish()
        }
        var received: [Int] = []
        while let number = try await channel.next() { received.append(number) }
        try await sending.value
        #expect(received == Array(0..<500))
        #expect(try await channel.next() == nil)
        await #expect(throws: CancellationError.self) { try await channel.send(1) }
    }

    @Test("makes a sender wait while it is full")
    func backPressure() async throws {
        let channel = BoundedChannel<Int>(limit: 2)
        try await channel.send(1)
        try await channel.send(2)
        let third = Task { try await channel.send(3) }
        third.cancel()
        await #expect(throws: CancellationError.self) { try await third.value }
        #expect(try await channel.next() == 1)
        try await channel.send(4)
        channel.finish()
        #expect(try await channel.next() == 2)
        #expect(try await channel.next() == 4)
        #expect(try await channel.next() == nil)
    }

    @Test("lets a waiting receiver go when its task is cancelled")
    func cancelledReceiver() async throws {
        let channel = BoundedChannel<Int>(limit: 2)
        let receiving = Task { try await channel.next() }
        receiving.cancel()
        await #expect(throws: CancellationError.self) { try await receiving.value }
        try await channel.send(1)
        #expect(try await channel.next() == 1)
    }

    @Test("gives both sides the error it is closed with, and drops what waits")
    func failure() async throws {
        struct Broken: Error {}
        let channel = BoundedChannel<Int>(limit: 1)
        try await channel.send(1)
        let waiting = Task { try await channel.send(2) }
        channel.finish(throwing: Broken())
        await #expect(throws: Broken.self) { try await waiting.value }
        await #expect(throws: Broken.self) { try await channel.next() }
        await #expect(throws: Broken.self) { try await channel.send(3) }
        channel.finish()
        await #expect(throws: Broken.self) { try await channel.next() }
    }
}
