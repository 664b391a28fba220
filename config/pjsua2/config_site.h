/* PJSIP compile-time limits for recorderd. Every value that differs from the
 * default says why. A changed value makes a new wheel (build.sh hashes this file).
 */

/* --- calls --- */
#define PJSUA_MAX_CALLS             2048    /* default 4; the run-time limit is UaConfig.maxCalls */
#define PJSUA_HAS_SIPREC            1       /* accept Require: siprec (RFC 7866) */
#define PJSUA_MAX_ACC               32      /* one per exchange we register with, and the local ones; default 8 */
#define PJSUA_MAX_PLAYERS           256     /* spoken prompts at one time; default 32 */
/* Two streams a call and the players. Each port of the bridge allocates 8 octets
 * per possible port: lower MediaConfig.maxMediaPorts at run time to save memory. */
#define PJSUA_MAX_CONF_PORTS        (2 * PJSUA_MAX_CALLS + PJSUA_MAX_PLAYERS)

/* --- signalling --- */
#define PJSIP_MAX_PKT_LEN           65536   /* SIPREC INVITEs carry SDP and XML; default 4000 */
#define PJSUA2_MAX_SDP_BUF_LEN      16384   /* a longer SDP reaches Python as an empty string; default 1024 */
#define PJSIP_MAX_URL_SIZE          1024    /* From parameters x-nearend, x-farend, x-refci are long; default 256 */
/* Hash tables, 2^n - 1. An INVITE transaction answered with 2xx lives for 32 s. */
#define PJSIP_MAX_TSX_COUNT         (16 * 1024 - 1)
#define PJSIP_MAX_DIALOG_COUNT      (8 * 1024 - 1)
#define PJSIP_TPMGR_HTABLE_SIZE     255
#define PJSIP_TCP_TRANSPORT_BACKLOG 128     /* default 5: a reconnecting exchange opens many at once */
#define PJSIP_TLS_TRANSPORT_BACKLOG 128

/* --- SDP --- */
#define PJMEDIA_MAX_SDP_MEDIA       16      /* m= lines; conferences and transfers append lines */
#define PJMEDIA_MAX_SDP_FMT         32
#define PJMEDIA_MAX_SDP_ATTR        128     /* a= lines in a section; default 68 */
#define PJMEDIA_MAX_SDP_BANDW       8       /* b= lines in a section; default 4 */
#define PJMEDIA_SDP_NEG_ANSWER_MULTIPLE_CODECS  1   /* our answer as it is; default: cut to its first codec */

/* --- offers that the application judges, not the library --- */
#define PJSIP_INV_ACCEPT_UNKNOWN_BODY   PJ_TRUE     /* metadata alone: a late offer */
#define PJMEDIA_SRTP_HAS_AES_GCM_128    1
#define PJMEDIA_SRTP_HAS_AES_GCM_256    1
#define srtp_aes_gcm_128_openssl        srtp_aes_gcm_128    /* as Debian's libsrtp2 names them */
#define srtp_aes_gcm_256_openssl        srtp_aes_gcm_256

/* --- sockets --- */
#define PJ_IOQUEUE_MAX_HANDLES      8192    /* with epoll; default 64 */
#define PJ_HAS_IPV6                 1

/* --- media --- */
#define PJMEDIA_HAS_VIDEO           0
#define PJMEDIA_HAS_L16_CODEC       1
#define PJMEDIA_CODEC_L16_HAS_8KHZ_MONO     1
#define PJMEDIA_CODEC_L16_HAS_16KHZ_MONO    1
#define PJMEDIA_CODEC_L16_HAS_48KHZ_MONO    1
#define PJMEDIA_CODEC_L16_HAS_8KHZ_STEREO   1
#define PJMEDIA_CODEC_L16_HAS_16KHZ_STEREO  1
#define PJMEDIA_CODEC_L16_HAS_48KHZ_STEREO  1
#define PJMEDIA_HAS_ILBC_CODEC      0       /* sources are not in the component */
#define PJMEDIA_HAS_G7221_CODEC     0       /* the same */

/* --- diagnosis --- */
#define PJ_HAS_ERROR_STRING         1       /* errors reach the journal as text */
#define PJ_LOG_MAX_LEVEL            5       /* the level in force is LogConfig.level */
