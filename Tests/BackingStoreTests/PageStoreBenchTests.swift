import Glibc
import Testing

@testable import BackingStore

/// Rates of the page store on 64 MB of random pages; the figures of docs/backing-store.md.
///
/// Run with SMIRUN_BENCH=DIRECTORY; fio's figures beside it come from scripts/bench-page-store.
@Suite("Page store rates", .enabled(if: getenv("SMIRUN_BENCH") != nil, "SMIRUN_BENCH names no directory"))
struct PageStoreBenchTests {
    @Test("4 KB pages in random order: write, sync, read, open")
    func rates() throws {
        let directory = getenv("SMIRUN_BENCH").map { String(cString: $0) } ?? "/tmp"
        let path = directory + "/bench.pages"
        defer { unlink(path) }
        let pages = 16384
        var generator = SeededGenerator(1)
        let data = UnsafeMutableRawBufferPointer.allocate(byteCount: pages * 4096, alignment: 4096)
        defer { data.deallocate() }
        for i in 0..<pages * 512 { data.storeBytes(of: generator.next(), toByteOffset: i * 8, as: UInt64.self) }
        let order = (0..<UInt64(pages)).shuffled(using: &generator)
        let clock = ContinuousClock()
        func report(_ name: String, _ time: Duration) {
            print("page store, \(name): \(Int(67.108864 / (time / .seconds(1)))) MB/s (\(time))")
        }
        for compression in [PageStore.Compression.lz4, .none] {
            let store = try PageStore.create(at: path, compression: compression)
            var epoch: UInt64 = 0
            for round in ["first write", "rewrite"] {
                let base = data.baseAddress!
                if round == "rewrite" {
                    for i in 0..<pages {
                        base.storeBytes(of: generator.next(), toByteOffset: i * 4096, as: UInt64.self)
                    }
                }
                let time = try clock.measure {
                    for number in order {
                        var page = number
                        _ = try withUnsafePointer(to: &page) {
                            try store.put(.init(start: $0, count: 1), base + Int(number) * 4096)
                        }
                    }
                }
                epoch += 1
                let sync = try clock.measure { try store.commit(epoch: epoch) }
                report("random \(round), \(compression)", time)
                print("page store, commit and sync after it: \(sync)")
            }
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 4096)
            defer { buffer.deallocate() }
            let time = try clock.measure { for page in order { _ = try store.read(page, into: buffer.baseAddress!) } }
            report("random read, \(compression)", time)
            let open = try clock.measure { _ = try PageStore.open(at: path, readOnly: true) }
            print("page store, open: \(open)")
        }
        for codec in [PageDelta.Codec.lz4, .zstd(level: 1), .zstd(level: 3)] {
            let store = try PageStore.create(at: path)
            let text = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096 * 256, alignment: 4096)
            defer { text.deallocate() }
            for i in 0..<text.count { text[i] = i % 16 < 6 ? UInt8.random(in: 0...255, using: &generator) : 0 }
            let numbers = (0..<256 as Range<UInt64>).map { $0 }
            var bytes = 0
            let time = try clock.measure {
                for _ in 0..<16 {
                    bytes += try PageDelta.encode(numbers, text.baseAddress!, from: store, baseEpoch: 0, codec: codec)
                        .count
                }
            }
            print("delta, \(codec): \(Int(16.777216 / (time / .seconds(1)))) MB/s, to \(bytes * 100 / (16 << 20)) %")
        }
    }
}
