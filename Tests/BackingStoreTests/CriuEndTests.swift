import CLinux
import Glibc
import LinuxSystem
import Testing

@testable import BackingStore

@Suite(
    "The end of CRIU",
    .enabled(if: geteuid() == 0 && TestCriu.isInstalled, "needs root and CRIU's prefix"),
    .serialized
)
struct CriuEndTests {
    /// Far from where the kernel maps anything by itself, as a program's memory is.
    private static let address: UInt64 = 0x1000_0000_0000
    private static let bytes = 512 << 20
    private static let page = 4096

    private func socketPair() throws -> (ours: Descriptor, theirs: Descriptor) {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        try syscall("socketpair") { socketpair(AF_UNIX, type, 0, &ends) }
        return (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
    }

    /// Bytes of memory that a process has; 0 for one that has ended.
    private func resident(_ pid: pid_t) -> Int {
        let fields = ((try? FileContents.string(of: "/proc/\(pid)/statm")) ?? "").split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * Self.page : 0
    }

    /// Has swrk map memory, and writes all of it.
    private func fill(_ pid: pid_t, _ orders: Descriptor) throws {
        let mapped = smi_inherit_order(
            orders.raw,
            Int32(SMI_INHERIT_MAP),
            [Self.address],
            [UInt64(Self.bytes)],
            1,
            10_000
        )
        try #require(mapped == 0)
        let piece = [UInt8](repeating: 7, count: 16 << 20)
        for start in stride(from: 0, to: Self.bytes, by: piece.count) {
            let pages = stride(from: start, to: start + piece.count, by: Self.page).map { Self.address + UInt64($0) }
            try #require(smi_pages_write(pid, pages, pages.count, piece) == 0)
        }
    }

    @Test("frees what was inherited in pieces: in one go it would keep a processor from everything else")
    func pieces() throws {
        let scratch = try ScratchDirectory()
        let preload = try TestCriu.buildPreload(scratch)
        let (requests, theirRequests) = try socketPair()
        let (orders, theirOrders) = try socketPair()
        let words = TestCriu.arguments(["swrk", "3"], preload: preload)
        var request = SpawnRequest(words[0], arguments: words)
        request.environment.append("SMIRUN_CRIU_INHERIT=4")
        request.descriptors = [3: theirRequests, 4: theirOrders]
        let child = try request.start()
        defer {
            try? child.signal(SIGKILL)
            _ = try? child.wait()
        }
        try fill(child.pid, orders)
        #expect(resident(child.pid) >= Self.bytes)
        // Without a request, and with nobody to wait for, it ends.
        requests.close()
        orders.close()
        var seen: Set<Int> = []
        let deadline = ContinuousClock.now + .seconds(30)
        while try !child.hasEnded(within: 1), ContinuousClock.now < deadline { seen.insert(resident(child.pid)) }
        // What a process frees as it ends is not seen at all: its memory is not its own any more.
        let between = seen.filter { $0 > Self.bytes / 10 && $0 < Self.bytes / 10 * 9 }
        #expect(between.count > 3, "\(seen.count) sizes seen")
    }
}
