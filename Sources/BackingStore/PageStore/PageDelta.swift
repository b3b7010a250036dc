import CPageStore

/// Frames of pages on their way from one store to another that holds an earlier epoch.
///
/// Each page travels as a XOR against the version both hold, as a copy of the same page of the parent process, or
/// whole, whichever applies first and is small; a frame is compressed as one piece.
package enum PageDelta {
    /// The most pages one frame may hold.
    package static let maxPages = 4096

    /// How a frame is compressed.
    package enum Codec: Sendable, Equatable {
        case none
        case lz4
        case zstd(level: Int)

        /// The codec that delivers pages soonest over a link of this speed, in bytes a second.
        ///
        /// A codec pays while it removes bytes faster than the link would carry them. Thresholds from `PageStoreBench`
        /// on a 2-core machine: zstd level 3 packs memory pages at about 150 MB/s, level 1 at 300, LZ4 at 600.
        package static func best(forLink bytesPerSecond: Double) -> Codec {
            switch bytesPerSecond {
            case ..<20e6: .zstd(level: 3)
            case ..<80e6: .zstd(level: 1)
            case ..<400e6: .lz4
            default: .none
            }
        }
    }

    /// Encodes pages (ascending page numbers, `data` 4 KB each) before they are put into `store`.
    ///
    /// `baseEpoch` is the newest epoch that the other side holds whole, 0 for none. `parent` is the store of the
    /// process this one was forked from, on both sides at the same state.
    package static func encode(
        _ pages: [UInt64],
        _ data: UnsafeRawPointer,
        from store: PageStore,
        baseEpoch: UInt64,
        parent: PageStore? = nil,
        codec: Codec
    ) throws(PageStoreError) -> [UInt8] {
        var options = smi_pd_options(base_epoch: baseEpoch, codec: 0, level: 0)
        switch codec {
        case .none: options.codec = Int32(SMI_PD_NONE.rawValue)
        case .lz4: options.codec = Int32(SMI_PD_LZ4.rawValue)
        case .zstd(let level):
            options.codec = Int32(SMI_PD_ZSTD.rawValue)
            options.level = Int32(level)
        }
        let capacity = smi_pd_bound(pages.count)
        var failure: PageStoreError?
        let frame = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            do throws(PageStoreError) {
                count = try Int(
                    store.check {
                        smi_pd_encode(
                            store.handle,
                            parent?.handle,
                            pages,
                            data,
                            pages.count,
                            &options,
                            buffer.baseAddress,
                            capacity,
                            $0
                        )
                    }
                )
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return frame
    }

    /// Verifies a frame against `store` (and `parent`) and puts its pages, all or nothing.
    ///
    /// Returns their numbers.
    @discardableResult
    package static func apply(
        _ frame: UnsafeRawBufferPointer,
        to store: PageStore,
        parent: PageStore? = nil
    ) throws(PageStoreError) -> [UInt64] {
        var failure: PageStoreError?
        let pages = [UInt64](unsafeUninitializedCapacity: maxPages) { buffer, count in
            do throws(PageStoreError) {
                count = try Int(
                    store.check {
                        smi_pd_apply(
                            store.handle,
                            parent?.handle,
                            frame.baseAddress,
                            frame.count,
                            buffer.baseAddress,
                            $0
                        )
                    }
                )
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return pages
    }
}
