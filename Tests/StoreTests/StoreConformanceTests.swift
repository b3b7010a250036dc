import Foundation
import Testing

@testable import Orchestrator

/// What every implementation of the cluster store must do, in process and over the network.
@Suite("Every cluster store", .serialized, .timeLimit(.minutes(10)))
struct StoreConformanceTests {
    @Test("gives back what was put, and nil for what was not", arguments: StoreKind.allCases)
    func getAndPut(kind: StoreKind) async throws {
        try await kind.with { store in
            #expect(try await store.get("smi/alice") == nil)
            let first = try await store.put("smi/alice", [1, 2, 3], expect: .absent)
            #expect(
                try await store.get("smi/alice") == StoreEntry(key: "smi/alice", value: [1, 2, 3], revision: first)
            )
            let second = try await store.put("smi/alice", [], expect: .any)
            #expect(second == first + 1)
            #expect(try await store.get("smi/alice") == StoreEntry(key: "smi/alice", value: [], revision: second))
            let binary = (0...255).map { UInt8($0) }
            try await store.put("smi/bob", binary, expect: .any)
            #expect(try await store.get("smi/bob")?.value == binary)
        }
    }

    @Test("writes only when the expectation holds, and says what it found instead", arguments: StoreKind.allCases)
    func expectations(kind: StoreKind) async throws {
        try await kind.with { store in
            let missing = try await failure(StoreError.self) { try await store.put("k", [1], expect: .revision(7)) }
            #expect(missing == .conflict(current: nil))
            let revision = try await store.put("k", [1], expect: .absent)
            let current = StoreEntry(key: "k", value: [1], revision: revision)
            let exists = try await failure(StoreError.self) { try await store.put("k", [2], expect: .absent) }
            #expect(exists == .conflict(current: current))
            let stale = try await failure(StoreError.self) {
                try await store.put("k", [2], expect: .revision(revision + 9))
            }
            #expect(stale == .conflict(current: current))
            #expect(try await store.get("k") == current)
            let next = try await store.put("k", [2], expect: .revision(revision))
            #expect(next > revision)
            let late = try await failure(StoreError.self) { try await store.delete("k", expect: .revision(revision)) }
            #expect(late == .conflict(current: StoreEntry(key: "k", value: [2], revision: next)))
            try await store.delete("k", expect: .revision(next))
            #expect(try await store.get("k") == nil)
        }
    }

    @Test("deletes a key once; deleting nothing changes nothing", arguments: StoreKind.allCases)
    func deletion(kind: StoreKind) async throws {
        try await kind.with { store in
            let put = try await store.put("k", [1], expect: .any)
            let deleted = try await store.delete("k", expect: .any)
            #expect(deleted == put + 1)
            #expect(try await store.delete("k", expect: .any) == deleted)
            let again = try await store.put("k", [2], expect: .absent)
            #expect(again == deleted + 1)
        }
    }

    @Test("lists a prefix in the order of the keys' bytes", arguments: StoreKind.allCases)
    func listing(kind: StoreKind) async throws {
        try await kind.with { store in
            for key in ["smi/b", "smi/a", "smi0", "smi/", "smj/a", "smi/a/x", "smi/ä", "s"] {
                try await store.put(key, Array(key.utf8), expect: .absent)
            }
            let below = try await store.list(prefix: "smi/")
            #expect(below.map(\.key) == ["smi/", "smi/a", "smi/a/x", "smi/b", "smi/ä"])
            #expect(below.allSatisfy { Array($0.key.utf8) == $0.value })
            #expect(try await store.list(prefix: "").count == 8)
            #expect(try await store.list(prefix: "none").isEmpty)
        }
    }

    @Test("keeps apart keys that only look alike, and refuses keys that are none", arguments: StoreKind.allCases)
    func oddKeys(kind: StoreKind) async throws {
        try await kind.with { store in
            let good = ["e\u{301}", "\u{e9}", "a b", "..", "/", "%s'\"; DROP TABLE entry;--", "\u{10ffff}", "%", "_"]
            let long = String(repeating: "x", count: StoreKey.maximumLength)
            for (index, key) in (good + [long]).enumerated() {
                try await store.put(key, [UInt8(index)], expect: .absent)
            }
            for (index, key) in (good + [long]).enumerated() {
                #expect(try await store.get(key)?.value == [UInt8(index)])
            }
            #expect(try await store.list(prefix: "").count == good.count + 1)
            #expect(try await store.list(prefix: "\u{10ffff}").count == 1)
            #expect(try await store.list(prefix: "%").count == 2)
            for key in ["", "a\u{0}b", "a\nb", "\u{7f}", long + "x"] {
                await #expect(throws: StoreError.self) { try await store.put(key, [], expect: .any) }
                await #expect(throws: StoreError.self) { try await store.get(key) }
                await #expect(throws: StoreError.self) { try await store.delete(key, expect: .any) }
            }
            await #expect(throws: StoreError.self) { try await store.list(prefix: "\u{0}") }
            await #expect(throws: StoreError.self) { for try await _ in store.watch(prefix: "\u{1}") {} }
        }
    }

    @Test("takes values of up to 1 MiB and refuses longer ones", arguments: StoreKind.allCases)
    func valueSizes(kind: StoreKind) async throws {
        try await kind.with { store in
            let largest = [UInt8](repeating: 7, count: StoreKey.maximumValue)
            try await store.put("large", largest, expect: .any)
            #expect(try await store.get("large")?.value == largest)
            let error = try await failure(StoreError.self) { try await store.put("large", largest + [1], expect: .any) }
            guard case .invalid = error else {
                Issue.record("\(error)")
                return
            }
        }
    }

    @Test("lets exactly one of many concurrent compare-and-swaps win", arguments: StoreKind.allCases)
    func concurrentSwaps(kind: StoreKind) async throws {
        try await kind.with { store in
            var revision = try await store.put("owner", [], expect: .absent)
            for round in 0..<10 {
                let expected = revision
                let winners = await withTaskGroup(of: (UInt8, Int64)?.self, returning: [(UInt8, Int64)].self) { group in
                    for host in 0..<8 as Range<UInt8> {
                        group.addTask {
                            guard let won = try? await store.put("owner", [host], expect: .revision(expected)) else {
                                return nil
                            }
                            return (host, won)
                        }
                    }
                    return await group.reduce(into: []) { all, one in if let one { all.append(one) } }
                }
                #expect(winners.count == 1, "round \(round)")
                let (host, won) = try #require(winners.first)
                #expect(try await store.get("owner") == StoreEntry(key: "owner", value: [host], revision: won))
                revision = won
            }
        }
    }

    @Test("counts every commit of concurrent writers, none twice", arguments: StoreKind.allCases)
    func concurrentCounter(kind: StoreKind) async throws {
        try await kind.with { store in
            try await store.put("counter", [0, 0], expect: .absent)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        for _ in 0..<20 { try await increment(store) }
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await store.get("counter")?.value == [160, 0])
        }
    }

    @Test(
        "begins a watch with the contents and reports later changes in the order of commits",
        arguments: StoreKind.allCases
    )
    func watching(kind: StoreKind) async throws {
        try await kind.with { store in
            let before = try await store.put("smi/a", [0], expect: .any)
            var events = store.watch(prefix: "smi/").makeAsyncIterator()
            let start = try await events.next()
            #expect(start == .snapshot([StoreEntry(key: "smi/a", value: [0], revision: before)], revision: before))
            var expected: [StoreEvent] = []
            for index in 0..<200 as Range<UInt8> {
                try await store.put("other/\(index)", [index], expect: .any)
                let revision = try await store.put("smi/\(index % 7)", [index], expect: .any)
                expected.append(.put(StoreEntry(key: "smi/\(index % 7)", value: [index], revision: revision)))
            }
            let gone = try await store.delete("smi/a", expect: .any)
            expected.append(.deleted(key: "smi/a", revision: gone))
            for event in expected { #expect(try await events.next() == event) }
        }
    }

    @Test("shows a watch each commit of concurrent writers exactly once, none twice", arguments: StoreKind.allCases)
    func watchingConcurrentWriters(kind: StoreKind) async throws {
        try await kind.with { store in
            let writing = Task {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for writer in 0..<4 {
                        group.addTask {
                            for index in 0..<50 as Range<UInt8> {
                                try await store.put("w/\(writer)", [index], expect: .any)
                            }
                        }
                    }
                    try await group.waitForAll()
                }
                try await store.put("w/end", [], expect: .any)
            }
            // The watch begins somewhere in the middle of the writing.
            var last: Int64 = 0
            var contents: [String: [UInt8]] = [:]
            var changes: Int64 = 0
            watching: for try await event in store.watch(prefix: "w/") {
                switch event {
                case .snapshot(let entries, let revision):
                    last = revision
                    contents = Dictionary(uniqueKeysWithValues: entries.map { ($0.key, $0.value) })
                case .put(let entry):
                    #expect(entry.revision == last + 1)
                    last = entry.revision
                    changes += 1
                    contents[entry.key] = entry.value
                case .deleted: Issue.record("nothing was deleted")
                }
                if contents["w/end"] != nil { break watching }
            }
            try await writing.value
            #expect(last == 201)
            #expect(contents.count == 5)
            #expect((0..<4).allSatisfy { contents["w/\($0)"] == [49] })
            #expect(changes <= 201)
        }
    }

    @Test("ends a watch when its consumer leaves, and serves others on", arguments: StoreKind.allCases)
    func leavingWatches(kind: StoreKind) async throws {
        try await kind.with { store in
            for round in 0..<20 as Range<UInt8> {
                for try await _ in store.watch(prefix: "") { break }
                try await store.put("k", [round], expect: .any)
            }
            var events = store.watch(prefix: "").makeAsyncIterator()
            guard case .snapshot(let entries, _) = try await events.next() else {
                Issue.record("no snapshot")
                return
            }
            #expect(entries.map(\.value) == [[19]])
        }
    }

    @Test("holds 10,000 keys, lists and watches them whole", arguments: StoreKind.allCases)
    func manyKeys(kind: StoreKind) async throws {
        try await kind.with { store in
            let clock = ContinuousClock()
            let count = 10_000
            let value = [UInt8](repeating: 0x61, count: 400)
            let writing = try await clock.measure {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for part in 0..<16 {
                        group.addTask {
                            for index in stride(from: part, to: count, by: 16) {
                                try await store.put("smi/\(index)", value, expect: .absent)
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            var listed: [StoreEntry] = []
            let listing = try await clock.measure { listed = try await store.list(prefix: "smi/") }
            #expect(listed.count == count)
            #expect(
                zip(listed, listed.dropFirst()).allSatisfy {
                    Array($0.key.utf8).lexicographicallyPrecedes(Array($1.key.utf8))
                }
            )
            var events = store.watch(prefix: "smi/").makeAsyncIterator()
            guard case .snapshot(let entries, let revision) = try await events.next() else {
                Issue.record("no snapshot")
                return
            }
            #expect(entries == listed)
            #expect(revision == Int64(count))
            print(
                "figure: store \(kind.rawValue): 10,000 keys written by 16 tasks in \(writing / .seconds(1)) s,",
                "listed in \(Spread.milliseconds(listing)) ms"
            )
        }
    }
}

/// Adds one to a counter of two bytes by compare-and-swap.
private func increment(_ store: any ClusterStore) async throws {
    while true {
        let entry = try #require(try await store.get("counter"))
        let value = Int(entry.value[0]) + Int(entry.value[1]) << 8 + 1
        do {
            try await store.put("counter", [UInt8(value & 255), UInt8(value >> 8)], expect: .revision(entry.revision))
            return
        } catch StoreError.conflict {
            continue
        }
    }
}
