import CLinux
import Testing

@testable import BackingStore

@Suite("What a late cut leaves")
struct LateChoiceTests {
    private func mapping(_ pages: Range<UInt64>, inode: UInt64 = 0, flags: smi_vma_flags...) -> Mapping {
        var raw = smi_vma()
        (raw.start, raw.end, raw.inode) = (pages.lowerBound * 4096, pages.upperBound * 4096, inode)
        raw.flags = flags.reduce(0) { $0 | $1.rawValue }
        return "".withCString { Mapping(raw, text: $0) }
    }

    private func process(_ mappings: [Mapping], present: [Range<UInt64>]) -> ProcessDirty {
        ProcessDirty(
            pid: 1,
            startTime: 1,
            isTracked: true,
            dirty: [],
            present: present,
            mappings: mappings,
            sharedWritten: [:]
        )
    }

    @Test("are pages that come by page fault: neither code, nor over files, nor shared, nor gone")
    func kinds() {
        let process = process(
            [
                mapping(0..<100), mapping(100..<200, inode: 7), mapping(200..<300, flags: SMI_VMA_EXECUTE),
                mapping(300..<400, flags: SMI_VMA_SHARED), mapping(400..<500, flags: SMI_VMA_SPECIAL),
                mapping(500..<600, flags: SMI_VMA_WRITE),
            ],
            present: [0..<50, 100..<600]
        )
        var few = LateChoice.mostWithCut
        #expect(LateChoice.late([20..<60, 90..<590], of: process, few: &few) == [20..<50, 500..<590])
        #expect(few == LateChoice.mostWithCut)
    }

    @Test("are not the pages of a mapping that has few, up to a limit")
    func few() {
        let mappings = (0..<20).map { mapping(UInt64($0) * 100..<UInt64($0) * 100 + 100) }
        let pending = (0..<20).map { UInt64($0) * 100..<UInt64($0) * 100 + 8 }
        var few = LateChoice.mostWithCut
        let late = LateChoice.late(pending, of: process(mappings, present: [0..<2000]), few: &few)
        #expect(few == 0)
        #expect(late == Array(pending[8...]))
    }

    @Test("and samples agree with sets", arguments: 1...30 as ClosedRange<UInt64>)
    func ranges(seed: UInt64) {
        var generator = SeededGenerator(seed)
        func random() -> [Range<UInt64>] {
            normalized(
                (0..<Int.random(in: 0...12, using: &generator)).map { _ in
                    let start = UInt64.random(in: 0..<60, using: &generator)
                    return start..<start + UInt64.random(in: 1...9, using: &generator)
                }
            )
        }
        let (a, b) = (random(), random())
        #expect(Set(intersection(a, b).joined()) == Set(a.joined()).intersection(b.joined()))
        for spacing in 1...5 {
            let all = Array(a.joined())
            let sample = Array(everyNth(of: a, spacing).joined())
            #expect(sample == stride(from: 0, to: all.count, by: spacing).map { all[$0] })
        }
    }
}
